"""Rigid shape families of test-v1; no other split has them. Frozen with test-v1."""

from __future__ import annotations

import math

import numpy as np

from amodal_diffusion.synthetic.outlines import (
    Family,
    Part,
    Parts,
    box,
    chain,
    ellipse,
    polygon,
    still,
    turned,
    walk,
)
from amodal_diffusion.synthetic.rng import Float64, Rng


def _heart(rng: Rng, _clock: Float64) -> Parts:
    theta = np.arange(48) * (2 * math.pi / 48)
    x = 16 * np.sin(theta) ** 3
    y = -(13 * np.cos(theta) - 5 * np.cos(2 * theta) - 2 * np.cos(3 * theta) - np.cos(4 * theta))
    return [Part(polygon(np.stack([x * rng.uniform(0.8, 1.1), y], axis=-1)))]


def _arrow(rng: Rng, _clock: Float64) -> Parts:
    neck, thick, flare = rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.25), rng.uniform(0.4, 0.7)
    barb = rng.uniform(0.0, 0.2)
    head = [(neck - barb, -flare), (1, 0), (neck - barb, flare)]
    return [Part(polygon([(-1, -thick), (neck, -thick), *head, (neck, thick), (-1, thick)]))]


def _key(rng: Rng, _clock: Float64) -> Parts:
    bow, thick = rng.uniform(0.3, 0.45), rng.uniform(0.07, 0.12)
    parts = [Part(ellipse(-0.8, 0, bow, bow)), Part(box(-0.6, -thick, 1.0, thick), shade=-0.1)]
    for k in range(rng.integer(2, 3)):
        x = 0.85 - 0.28 * k
        parts.append(Part(box(x - 0.08, 0, x + 0.08, rng.uniform(0.25, 0.45)), shade=-0.1))
    return [*parts, Part(ellipse(-0.85, 0, bow * 0.5, bow * 0.5, corners=18), hole=True)]


def _car(rng: Rng, _clock: Float64) -> Parts:
    long, roof = rng.uniform(0.9, 1.2), rng.uniform(0.35, 0.5)
    body = polygon([(-long, 0.3), (-long, -0.05), (-0.9 * long, -0.1), (long, -0.05), (long, 0.3)])
    cabin = polygon([(-0.7 * long, -0.08), (-0.45 * long, -roof), (0.25 * long, -roof), (0.6 * long, -0.08)])
    pane = polygon(
        [(-0.5 * long, -0.12), (-0.38 * long, -roof + 0.07), (0.18 * long, -roof + 0.07), (0.4 * long, -0.12)]
    )
    wheel = rng.uniform(0.18, 0.25)
    wheels = [Part(ellipse(x * long, 0.3, wheel, wheel, corners=20), shade=-0.45) for x in (-0.6, 0.6)]
    return [Part(body), Part(cabin, shade=0.05), Part(pane, shade=0.4), *wheels]


def _umbrella(rng: Rng, _clock: Float64) -> Parts:
    theta = np.linspace(math.pi, 2 * math.pi, 22)
    tall = rng.uniform(0.6, 0.9)
    top = np.stack([np.cos(theta), tall * np.sin(theta)], axis=-1)
    scallop = [(x, -0.1 if k % 2 else 0.0) for k, x in enumerate(np.linspace(1, -1, 9))]
    stick = chain([still(0, -0.3), still(0, 0.9)], [0.045, 0.045], shade=-0.3)
    hook = chain(walk(still(0, 0.9), [0.9, -0.3, -1.4], [0.12, 0.12, 0.12]), [0.05] * 4, shade=-0.3)
    return [*stick, *hook, Part(polygon(np.concatenate([top, scallop[1:-1]])))]


def _chair(rng: Rng, _clock: Float64) -> Parts:
    seat, back, thick = rng.uniform(0.5, 0.7), rng.uniform(0.8, 1.1), rng.uniform(0.06, 0.1)
    parts = [Part(box(-seat, 0, seat, 0.14)), Part(box(-seat, -back, -seat + 2 * thick, 0.1), shade=-0.1)]
    if rng.chance(0.5):
        parts.append(Part(box(-seat, -back, -seat + 4 * thick, -back * 0.55), shade=0.1))
    legs = [
        (-seat, -seat + thick),
        (-seat * 0.3, -seat * 0.3 + thick),
        (seat * 0.4, seat * 0.4 + thick),
        (seat - thick, seat),
    ]
    return [*parts, *(Part(box(a, 0.1, b, 0.95), shade=-0.2) for a, b in legs[:: rng.choice((1, 3))])]


def _ladder(rng: Rng, _clock: Float64) -> Parts:
    wide, top, rungs = rng.uniform(0.25, 0.4), rng.uniform(0.6, 1.0), rng.integer(4, 6)
    parts: Parts = []
    for side in (-1.0, 1.0):
        parts += chain([still(side * wide, 1), still(side * wide * top, -1)], [0.055, 0.055])
    for k in range(rungs):
        y = 0.8 - 1.6 * k / (rungs - 1)
        reach = wide * (top + (1 - top) * (y + 1) / 2)
        parts += chain([still(-reach, y), still(reach, y)], [0.05, 0.05], shade=-0.2)
    return parts


def _spiral(rng: Rng, _clock: Float64) -> Parts:
    turn = np.linspace(0, rng.uniform(1.3, 2.2) * 2 * math.pi, 26)
    radius = 0.08 + 0.92 * (turn / turn[-1]) ** rng.uniform(0.8, 1.2)
    nodes = [still(r * math.cos(a), r * math.sin(a)) for r, a in zip(radius, turn, strict=True)]
    thick = rng.uniform(0.08, 0.14)
    return chain(nodes, list(np.linspace(thick * 0.7, thick, 26)))


def _house(rng: Rng, _clock: Float64) -> Parts:
    tall, eave = rng.uniform(0.5, 0.9), rng.uniform(0.0, 0.2)
    parts = [
        Part(box(-0.7, 0, 0.7, tall)),
        Part(polygon([(-0.7 - eave, 0.02), (0, -0.7), (0.7 + eave, 0.02)]), shade=-0.3),
    ]
    if rng.chance(0.7):
        parts.append(Part(box(0.3, -0.75, 0.5, -0.2), shade=-0.15))
    return [*parts, Part(box(-0.15, tall * 0.4, 0.15, tall), shade=0.35)]


def _mug(rng: Rng, _clock: Float64) -> Parts:
    tall, flare = rng.uniform(0.5, 0.8), rng.uniform(0.8, 1.15)
    handle, hollow = ellipse(0.6, 0, 0.5, tall * 0.62), ellipse(0.8, 0, 0.16, tall * 0.36)
    body = polygon([(-0.6 * flare, -tall), (0.6 * flare, -tall), (0.6, tall), (-0.6, tall)])
    return [Part(handle, shade=-0.2), Part(body), Part(hollow, hole=True)]


def _mushroom(rng: Rng, _clock: Float64) -> Parts:
    theta = np.linspace(math.pi, 2 * math.pi, 20)
    cap = np.stack([np.cos(theta), rng.uniform(0.5, 1.0) * np.sin(theta)], axis=-1)
    under = [(0.8, 0.12), (0.0, 0.18), (-0.8, 0.12)]
    thick = rng.uniform(0.16, 0.3)
    stem = polygon([(-thick, 0.1), (thick, 0.1), (thick * 1.4, 0.95), (-thick * 1.4, 0.95)])
    return [Part(stem, shade=0.3), Part(polygon(np.concatenate([cap, under])), shade=-0.1)]


def _hammer(rng: Rng, _clock: Float64) -> Parts:
    thick, head = rng.uniform(0.07, 0.12), rng.uniform(0.4, 0.6)
    claw = polygon([(0, -0.9), (head, -0.75), (head * 1.3, -0.5), (head * 0.9, -0.62), (0, -0.6)])
    return [
        Part(box(-thick, -0.8, thick, 1.0), shade=0.2),
        Part(box(-head, -0.95, 0.1, -0.55), shade=-0.3),
        Part(claw, shade=-0.3),
    ]


def _sailboat(rng: Rng, _clock: Float64) -> Parts:
    hull = polygon([(-0.9, 0.4), (0.9, 0.4), (0.6, 0.75), (-0.65, 0.75)])
    main = polygon([(0.05, -1.0), (0.05, 0.25), (rng.uniform(0.6, 0.9), 0.25)])
    jib = polygon([(-0.06, -0.8), (-0.06, 0.25), (-rng.uniform(0.4, 0.8), 0.25)])
    return [
        Part(hull, shade=-0.25),
        Part(box(-0.04, -1.05, 0.04, 0.45), shade=-0.3),
        Part(main, shade=0.2),
        Part(jib, shade=0.1),
    ]


def _cactus(rng: Rng, _clock: Float64) -> Parts:
    parts = chain([still(0, 1), still(0, -0.9)], [0.22, 0.2])
    for side in (-1.0, 1.0):
        y, reach, up = rng.uniform(-0.2, 0.5), rng.uniform(0.42, 0.6), rng.uniform(0.4, 0.8)
        nodes = [still(0, y), still(side * reach, y), still(side * reach, y - up)]
        parts += chain(nodes, [0.13, 0.13, 0.12], shade=0.1 * side)
    return parts


def _bicycle(rng: Rng, _clock: Float64) -> Parts:
    wheel, rim = rng.uniform(0.42, 0.5), rng.uniform(0.07, 0.1)
    parts: Parts = []
    for x in (-0.65, 0.65):
        around = [still(x + wheel * math.cos(a), 0.4 + wheel * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 17)]
        parts += chain(around, [rim / 1.6] * 17, shade=-0.3)
    joints = [(-0.65, 0.4), (-0.25, -0.25), (0.4, -0.25), (0.05, 0.4), (-0.65, 0.4)]
    frame = chain([still(*p) for p in joints], [0.055] * 5)
    fork = chain([still(0.65, 0.4), still(0.4, -0.25), still(0.32, -0.45), still(0.52, -0.5)], [0.055] * 4)
    saddle = chain([still(-0.25, -0.25), still(-0.3, -0.42)], [0.05, 0.05]) + chain(
        [still(-0.42, -0.44), still(-0.14, -0.44)], [0.06, 0.05]
    )
    return [*parts, *frame, *fork, *saddle]


THINGS: tuple[Family, ...] = (
    Family("heart", _heart),
    Family("arrow", _arrow),
    Family("car", _car, upright=True),
    Family("umbrella", _umbrella, upright=True),
    Family("house", _house, upright=True),
    Family("mug", _mug, upright=True),
    Family("mushroom", _mushroom, upright=True),
    Family("sailboat", _sailboat, upright=True),
    Family("cactus", _cactus, upright=True),
)
THIN: tuple[Family, ...] = (
    Family("hammer", _hammer),
    Family("key", _key),
    Family("chair", _chair, upright=True),
    Family("ladder", _ladder, upright=True),
    Family("spiral", _spiral),
    Family("bicycle", _bicycle, upright=True),
)


def _crate(rng: Rng, _clock: Float64) -> Parts:
    """A packing case seen at an angle: a front and a slanted side."""
    tall, deep, rise = rng.uniform(0.7, 1.1), rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.3)
    front = box(-0.8, -tall, 0.5, tall)
    side = polygon([(0.5, -tall), (0.5 + deep, -tall + rise), (0.5 + deep, tall - rise), (0.5, tall)])
    return [Part(front), Part(side, shade=-0.35)]


def _bush(rng: Rng, _clock: Float64) -> Parts:
    """A half-round shrub with a leafy edge."""
    theta = np.linspace(math.pi, 2 * math.pi, 33)
    radius = np.tile([1.0, 0.9], 17)[:33] * rng.array(33, 0.9, 1.0)
    dome = np.stack([radius * np.cos(theta), radius * rng.uniform(0.8, 1.2) * np.sin(theta)], axis=-1)
    return [Part(polygon(np.concatenate([dome, [(0.7, 0.3), (-0.7, 0.3)]])))]


def _boulder(rng: Rng, _clock: Float64) -> Parts:
    """A rock that is flat below and lumpy above."""
    top = [(x, -rng.uniform(0.55, 0.95) * math.sqrt(max(1.02 - x * x, 0.0))) for x in np.linspace(-1, 1, 8)]
    facet = turned(polygon([(-0.5, 0.3), (0.1, -0.35), (0.55, 0.35)]), rng.uniform(-0.3, 0.3))
    return [Part(polygon([*top, (0.85, 0.45), (-0.9, 0.45)])), Part(facet, shade=0.15)]


COVERS: tuple[Family, ...] = (
    Family("crate", _crate, upright=True),
    Family("bush", _bush, upright=True),
    Family("boulder", _boulder, upright=True),
)
