"""Random scene layouts: the objects, their motion and their depth order."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from amodal_diffusion.synthetic.catalogue import Catalogue
from amodal_diffusion.synthetic.motion import Pose, draw_pose, draw_velocity, travel
from amodal_diffusion.synthetic.outlines import Family, Parts, fit, swing
from amodal_diffusion.synthetic.rng import Float64, Rng

Mode = Literal["open", "partial", "vanish"]
"""Occlusion of the target: none, partial, or complete in some frames."""


@dataclass(frozen=True)
class Actor:
    """One object of a scene: a unit-size shape and its pose in each frame."""

    family: str
    parts: Parts
    pose: Pose


@dataclass(frozen=True)
class Layout:
    """All objects of a scene.

    Attributes:
        behind: objects farther than the target, farthest first.
        target: the object of interest.
        front: objects nearer than the target, farthest first.
    """

    behind: tuple[Actor, ...]
    target: Actor
    front: tuple[Actor, ...]


def draw_mode(rng: Rng) -> Mode:
    """Draw the occlusion mode: 20% open, 15% vanish, 65% partial."""
    at = rng.uniform(0, 1)
    return "open" if at < 0.2 else "vanish" if at < 0.35 else "partial"


def draw_layout(rng: Rng, catalogue: Catalogue, *, mode: Mode, clock: Float64, aspect: float) -> Layout:
    """Draw the objects of a scene.

    Args:
        rng: source of the draws.
        catalogue: families of the split.
        mode: intended occlusion of the target; the caller checks whether the layout achieves it.
        clock: time of each frame in [0, 1], float64 ``[F]``.
        aspect: frame width / frame height.
    """
    size = rng.uniform(0.18, 0.85)
    meet = rng.uniform(0.25, 0.75)
    where = np.asarray([rng.uniform(0.15, 0.85) * aspect, rng.uniform(0.2, 0.8)])
    velocity = draw_velocity(rng)
    first, reach = None, np.zeros(2)
    if mode == "vanish":
        cover = size * rng.uniform(1.5, 2.3)
        heading = rng.uniform(-0.4, 0.4) + (math.pi if rng.chance(0.5) else 0.0)
        reach = (size + cover) * rng.uniform(0.8, 1.6) * np.asarray([math.cos(heading), math.sin(heading)])
        crossing = rng.chance(0.5)  # the target passes behind a static occluder, or an occluder passes in front of it
        velocity = reach if crossing else velocity
        reach = np.zeros(2) if crossing else velocity + reach
        first = (rng.choice(catalogue.solids), cover)
    bend = rng.array(2, -0.6, 0.6) if rng.chance(0.5) else np.zeros(2)
    path = travel(clock, meet=meet, where=where, velocity=velocity, bend=bend)
    target = _actor(rng, clock, rng.choice(catalogue.targets), path=path, size=size)

    front = []
    if first is not None:
        spot = where + rng.array(2, -0.08, 0.08) * size
        cover_path = travel(clock, meet=meet, where=spot, velocity=reach, bend=np.zeros(2))
        front.append(_actor(rng, clock, first[0], path=cover_path, size=first[1], calm=True))
    else:
        aimed = rng.integer(1, catalogue.max_occluders)
        held = catalogue.held_share > 0 and rng.chance(catalogue.held_share)
        draw = _held if held else _occluder
        front += [draw(rng, catalogue, clock, target=target, size=size) for _ in range(aimed)]
    behind = [_bystander(rng, catalogue, clock, aspect=aspect) for _ in range(rng.integer(0, 2))]
    front += [_bystander(rng, catalogue, clock, aspect=aspect) for _ in range(rng.integer(0, 1))]
    if rng.chance(0.4):  # a large object far behind
        behind.insert(0, _bystander(rng, catalogue, clock, aspect=aspect, scale=2.5))
    order = np.argsort(rng.array(len(front), 0, 1))
    pan = _pan(rng, clock)
    return Layout(
        behind=tuple(_shifted(actor, 0.6 * pan) for actor in behind),
        target=_shifted(target, pan),
        front=tuple(_shifted(front[k], pan) for k in order),
    )


def _actor(rng: Rng, clock: Float64, family: Family, *, path: Float64, size: float, calm: bool = False) -> Actor:
    pose = draw_pose(rng, clock, path=path, size=size, upright=family.upright, lively=not (family.span or calm))
    return Actor(family.name, fit(family.build(rng, clock)), pose)


def _occluder(rng: Rng, catalogue: Catalogue, clock: Float64, *, target: Actor, size: float) -> Actor:
    """An occluder that crosses the target, near its center or at its rim, in a random frame."""
    kind = rng.uniform(0, 1)
    if kind < catalogue.occluder_share:
        family, own = rng.choice(catalogue.occluders), rng.uniform(0.8, 2.4)
        offset = rng.array(2, -0.4, 0.4) * size
    else:
        family = rng.choice(catalogue.solids if kind > (1 + catalogue.occluder_share) / 2 else catalogue.things)
        own = size * rng.uniform(*catalogue.relative_size)
        distance, heading = rng.uniform(0.1, 0.75) * (size + own) / 2, rng.angle()
        offset = distance * np.asarray([math.cos(heading), math.sin(heading)])
    meet = rng.integer(0, len(clock) - 1)
    velocity = draw_velocity(rng, slow=0.85 if family.span else 0.5)
    path = travel(
        clock, meet=float(clock[meet]), where=target.pose.center[meet] + offset, velocity=velocity, bend=np.zeros(2)
    )
    return _actor(rng, clock, family, path=path, size=own)


def _held(rng: Rng, catalogue: Catalogue, clock: Float64, *, target: Actor, size: float) -> Actor:
    """A small object in front of the target that moves with it and wanders a little."""
    own, away, heading = size * rng.uniform(0.15, 0.45), rng.uniform(0.0, 0.35), rng.angle()
    growth = target.pose.size / size
    wander = rng.uniform(0.0, 0.12) if rng.chance(0.6) else 0.0
    shift = np.stack(
        [away * math.cos(heading) + swing(rng, clock, wander), away * math.sin(heading) + swing(rng, clock, wander)],
        axis=-1,
    )
    path = target.pose.center + shift * size * growth[:, None]
    return _actor(rng, clock, rng.choice(catalogue.things), path=path, size=own)


def _bystander(rng: Rng, catalogue: Catalogue, clock: Float64, *, aspect: float, scale: float = 1.0) -> Actor:
    """An object placed independently of the target."""
    where = np.asarray([rng.uniform(0, aspect), rng.uniform(0.1, 0.9)])
    path = travel(clock, meet=rng.uniform(0, 1), where=where, velocity=draw_velocity(rng), bend=np.zeros(2))
    return _actor(rng, clock, rng.choice(catalogue.things), path=path, size=scale * rng.uniform(0.15, 0.6))


def _pan(rng: Rng, clock: Float64) -> Float64:
    """Image shift by a camera pan in frame heights, ``[F, 2]``; zero in 65% of the scenes."""
    if rng.chance(0.65):
        return np.zeros((len(clock), 2))
    drift = rng.array(2, -0.5, 0.5) * np.asarray([1.0, 0.3])
    return np.asarray((clock - 0.5)[:, None] * drift)


def _shifted(actor: Actor, shift: Float64) -> Actor:
    return replace(actor, pose=replace(actor.pose, center=actor.pose.center + shift))
