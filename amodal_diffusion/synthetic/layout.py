"""Who is in a scene, where, and in which order of depth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from amodal_diffusion.synthetic.catalogue import Catalogue
from amodal_diffusion.synthetic.motion import Pose, draw_pose, draw_velocity, travel
from amodal_diffusion.synthetic.outlines import Family, Parts, fit, swing
from amodal_diffusion.synthetic.rng import Dice, Float64

Mode = Literal["open", "partial", "vanish"]
"""Nothing hides the target; something hides parts of it; something hides all of it for some frames."""


@dataclass(frozen=True)
class Actor:
    """One object of a scene: a shape of unit size and its placement."""

    family: str
    parts: Parts
    pose: Pose


@dataclass(frozen=True)
class Layout:
    """All objects of a scene.

    Attributes:
        behind: objects that are farther than the target, farthest first.
        target: the object of interest.
        front: objects that are nearer than the target, farthest first.
    """

    behind: tuple[Actor, ...]
    target: Actor
    front: tuple[Actor, ...]


def draw_mode(dice: Dice) -> Mode:
    """A fifth of the scenes hide nothing, about a seventh hide the whole target for some frames."""
    at = dice.uniform(0, 1)
    return "open" if at < 0.2 else "vanish" if at < 0.35 else "partial"


def draw_layout(dice: Dice, catalogue: Catalogue, *, mode: Mode, clock: Float64, aspect: float) -> Layout:
    """Draw the objects of a scene.

    Args:
        dice: source of the draws.
        catalogue: families of the split.
        mode: how the target shall be hidden; `generate` checks afterwards whether it is.
        clock: times of the frames ``[F]``.
        aspect: frame width / frame height.
    """
    size = dice.uniform(0.18, 0.85)
    meet = dice.uniform(0.25, 0.75)
    where = np.asarray([dice.uniform(0.15, 0.85) * aspect, dice.uniform(0.2, 0.8)])
    velocity = draw_velocity(dice)
    first, reach = None, np.zeros(2)
    if mode == "vanish":
        cover = size * dice.uniform(1.5, 2.3)
        heading = dice.uniform(-0.4, 0.4) + (math.pi if dice.chance(0.5) else 0.0)
        reach = (size + cover) * dice.uniform(0.8, 1.6) * np.asarray([math.cos(heading), math.sin(heading)])
        crossing = dice.chance(0.5)  # either the target passes behind something at rest, or something passes it
        velocity = reach if crossing else velocity
        reach = np.zeros(2) if crossing else velocity + reach
        first = (dice.choice(catalogue.solids), cover)
    bend = dice.array(2, -0.6, 0.6) if dice.chance(0.5) else np.zeros(2)
    path = travel(clock, meet=meet, where=where, velocity=velocity, bend=bend)
    target = _actor(dice, clock, dice.choice(catalogue.targets), path=path, size=size)

    front = []
    if first is not None:
        spot = where + dice.array(2, -0.08, 0.08) * size
        cover_path = travel(clock, meet=meet, where=spot, velocity=reach, bend=np.zeros(2))
        front.append(_actor(dice, clock, first[0], path=cover_path, size=first[1], calm=True))
    else:
        aimed = dice.integer(1, catalogue.max_occluders)
        held = catalogue.held_share > 0 and dice.chance(catalogue.held_share)
        draw = _held if held else _occluder
        front += [draw(dice, catalogue, clock, target=target, size=size) for _ in range(aimed)]
    behind = [_bystander(dice, catalogue, clock, aspect=aspect) for _ in range(dice.integer(0, 2))]
    front += [_bystander(dice, catalogue, clock, aspect=aspect) for _ in range(dice.integer(0, 1))]
    if dice.chance(0.4):  # something large far behind
        behind.insert(0, _bystander(dice, catalogue, clock, aspect=aspect, scale=2.5))
    order = np.argsort(dice.array(len(front), 0, 1))
    pan = _pan(dice, clock)
    return Layout(
        behind=tuple(_shifted(actor, 0.6 * pan) for actor in behind),
        target=_shifted(target, pan),
        front=tuple(_shifted(front[k], pan) for k in order),
    )


def _actor(dice: Dice, clock: Float64, family: Family, *, path: Float64, size: float, calm: bool = False) -> Actor:
    pose = draw_pose(dice, clock, path=path, size=size, upright=family.upright, lively=not (family.span or calm))
    return Actor(family.name, fit(family.build(dice, clock)), pose)


def _occluder(dice: Dice, catalogue: Catalogue, clock: Float64, *, target: Actor, size: float) -> Actor:
    """Something near that meets the target at some time, on the middle or on the rim of it."""
    kind = dice.uniform(0, 1)
    if kind < catalogue.barrier_share:
        family, own = dice.choice(catalogue.barriers), dice.uniform(0.8, 2.4)
        offset = dice.array(2, -0.4, 0.4) * size
    else:
        family = dice.choice(catalogue.solids if kind > (1 + catalogue.barrier_share) / 2 else catalogue.things)
        own = size * dice.uniform(*catalogue.relative_size)
        distance, heading = dice.uniform(0.1, 0.75) * (size + own) / 2, dice.angle()
        offset = distance * np.asarray([math.cos(heading), math.sin(heading)])
    meet = dice.integer(0, len(clock) - 1)
    velocity = draw_velocity(dice, slow=0.85 if family.span else 0.5)
    path = travel(
        clock, meet=float(clock[meet]), where=target.pose.centre[meet] + offset, velocity=velocity, bend=np.zeros(2)
    )
    return _actor(dice, clock, family, path=path, size=own)


def _held(dice: Dice, catalogue: Catalogue, clock: Float64, *, target: Actor, size: float) -> Actor:
    """Something small before the target's body that goes with it and wanders a little, like a bird before its cage."""
    own, away, heading = size * dice.uniform(0.15, 0.45), dice.uniform(0.0, 0.35), dice.angle()
    growth = target.pose.size / size
    wander = dice.uniform(0.0, 0.12) if dice.chance(0.6) else 0.0
    shift = np.stack(
        [away * math.cos(heading) + swing(dice, clock, wander), away * math.sin(heading) + swing(dice, clock, wander)],
        axis=-1,
    )
    path = target.pose.centre + shift * size * growth[:, None]
    return _actor(dice, clock, dice.choice(catalogue.things), path=path, size=own)


def _bystander(dice: Dice, catalogue: Catalogue, clock: Float64, *, aspect: float, scale: float = 1.0) -> Actor:
    """Something that happens to be there."""
    where = np.asarray([dice.uniform(0, aspect), dice.uniform(0.1, 0.9)])
    path = travel(clock, meet=dice.uniform(0, 1), where=where, velocity=draw_velocity(dice), bend=np.zeros(2))
    return _actor(dice, clock, dice.choice(catalogue.things), path=path, size=scale * dice.uniform(0.15, 0.6))


def _pan(dice: Dice, clock: Float64) -> Float64:
    """Shift of the picture by the camera, ``[F, 2]``; none in most scenes."""
    if dice.chance(0.65):
        return np.zeros((len(clock), 2))
    drift = dice.array(2, -0.5, 0.5) * np.asarray([1.0, 0.3])
    return np.asarray((clock - 0.5)[:, None] * drift)


def _shifted(actor: Actor, shift: Float64) -> Actor:
    return replace(actor, pose=replace(actor.pose, centre=actor.pose.centre + shift))
