"""Articulated shape families and frame-sized occluders of test-v1. Frozen with test-v1."""

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
    moved,
    polygon,
    still,
    swing,
    turned,
    walk,
)
from amodal_diffusion.synthetic.rng import Float64, Rng

DOWN = math.pi / 2


def _quadruped(rng: Rng, clock: Float64) -> Parts:
    """A trotting four-legged animal with neck, head and tail."""
    long, fat = rng.uniform(0.5, 0.8), rng.uniform(0.18, 0.3)
    leg, neck = rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.7)
    stride, pace, phase = rng.uniform(0.2, 0.6), rng.uniform(1.0, 3.5), rng.angle()
    parts: Parts = []
    for k, x in enumerate((-long + 0.08, -long + 0.2, long - 0.2, long - 0.05)):
        step = stride * np.sin(2 * math.pi * pace * clock + phase + math.pi * (k in (1, 2)))
        nodes = walk(still(x, 0.05), [DOWN + step, DOWN + step * 0.4 + 0.2], [leg, leg * 0.8])
        parts += chain(nodes, [fat * 0.5, 0.09, 0.06], shade=-0.25 if k % 2 else -0.1)
    parts += chain([still(-long, 0), still(0, 0.03), still(long, -0.03)], [fat, fat * 0.9, fat * 1.05])
    nod = swing(rng, clock, 0.15)
    throat = walk(still(long, -0.1), [-0.9 + nod, 0.15 + nod], [neck + 0.2, 0.3])
    parts += chain(throat, [fat * 0.7, fat * 0.55, fat * 0.32], shade=0.1)
    tail = walk(still(-long - fat * 0.7, -0.1), [math.pi - 0.6 + swing(rng, clock, 0.5), math.pi - 1.2], [0.3, 0.25])
    return [*parts, *chain(tail, [0.07, 0.06, 0.04], shade=-0.1)]


def _fish(rng: Rng, clock: Float64) -> Parts:
    tall, wag = rng.uniform(0.3, 0.5), swing(rng, clock, 0.45, cycles=(1.0, 4.0))
    body = ellipse(0.1, 0, 0.8, tall)
    tail = turned(polygon([(-0.55, 0), (-1.15, -0.45), (-0.98, 0), (-1.15, 0.45)]), wag, about=(-0.5, 0.0))
    fin = polygon([(0.3, -tall * 0.85), (-0.35, -tall - rng.uniform(0.15, 0.35)), (-0.3, -tall * 0.8)])
    belly = polygon([(0.2, tall * 0.8), (-0.2, tall + 0.25), (-0.2, tall * 0.75)])
    return [Part(tail, shade=-0.2), Part(fin, shade=-0.15), Part(belly, shade=-0.15), Part(body)]


def _butterfly(rng: Rng, clock: Float64) -> Parts:
    """Wings that narrow as they close."""
    beat = 0.72 + 0.28 * np.sin(2 * math.pi * rng.uniform(1, 4) * clock + rng.angle())
    upper, lower = rng.uniform(0.35, 0.5), rng.uniform(0.25, 0.4)
    parts: Parts = []
    for side in (-1.0, 1.0):
        for wing, shade in (
            (turned(ellipse(0.55, -0.32, 0.55, upper), -0.4), 0.0),
            (turned(ellipse(0.42, 0.38, 0.42, lower), 0.4), 0.2),
        ):
            stretch = np.stack([side * beat, np.ones_like(beat)], axis=-1)[:, None]
            parts.append(Part(wing * stretch, shade=shade))
    return [*parts, *chain([still(0, -0.55), still(0, 0.6)], [0.1, 0.07], shade=-0.4)]


def _bird(rng: Rng, clock: Float64) -> Parts:
    """A bird seen from the side, flapping one visible pair of wings."""
    beat = swing(rng, clock, 0.7, cycles=(1.5, 4.0))
    wing = polygon([(0.25, 0.0), (-0.15, -0.85), (-0.45, -0.8), (-0.3, 0.05)])
    tail = polygon([(-0.5, -0.05), (-1.1, -0.2), (-1.05, 0.18), (-0.5, 0.12)])
    beak = polygon([(0.85, -0.22), (1.15, -0.12), (0.85, -0.06)])
    head = ellipse(0.72, -0.16, 0.2, 0.2, corners=18)
    body = ellipse(0.05, 0, 0.65, rng.uniform(0.22, 0.32))
    pieces = [Part(tail, shade=-0.2), Part(body), Part(head, shade=0.1), Part(beak, shade=-0.4)]
    return [*pieces, Part(turned(wing, beat, about=(0.0, 0.0)), shade=0.25)]


def _scissors(rng: Rng, clock: Float64) -> Parts:
    """Two blades with finger rings that open and close about a rivet."""
    opening = 0.4 + swing(rng, clock, 0.3, cycles=(0.7, 2.5))
    ring = rng.uniform(0.2, 0.28)
    parts: Parts = []
    for side in (-1.0, 1.0):
        blade = polygon([(-0.06, 0.0), (0.0, -1.0), (0.08, 0.0), (0.05, 0.6), (-0.06, 0.6)])
        turn = side * opening / 1.6
        parts += [
            Part(turned(blade, turn), shade=0.1 * side),
            Part(turned(ellipse(0, 0.75, ring, ring), turn), shade=-0.2),
        ]
        parts.append(Part(turned(ellipse(0, 0.75, ring * 0.55, ring * 0.55, corners=16), turn), hole=True))
    return parts


def _desk_lamp(rng: Rng, clock: Float64) -> Parts:
    """A desk lamp: foot, two-part arm that nods, cone-shaped shade."""
    first = -DOWN + rng.uniform(-0.5, 0.1) + swing(rng, clock, 0.15)
    second = first + rng.uniform(0.6, 1.3) + swing(rng, clock, 0.3)
    nodes = walk(still(0, 0.9), [first, second], [0.8, 0.8])
    shade = polygon([(-0.12, -0.12), (0.12, -0.12), (0.42, 0.42), (-0.42, 0.42)])
    tilt = second - 0.3 + swing(rng, clock, 0.2)
    cone = turned(shade, tilt) + nodes[-1][:, None]
    return [
        Part(box(-0.42, 0.85, 0.42, 1.0), shade=-0.3),
        *chain(nodes, [0.06, 0.06, 0.05], shade=-0.1),
        Part(cone, shade=0.3),
    ]


def _excavator(rng: Rng, clock: Float64) -> Parts:
    """A tracked machine with cab, boom, stick and bucket."""
    boom = -0.9 + swing(rng, clock, 0.3)
    stick = boom + rng.uniform(1.2, 1.8) + swing(rng, clock, 0.3)
    nodes = walk(still(0.25, 0.2), [boom, stick], [0.85, 0.6])
    bucket = (
        turned(polygon([(-0.05, -0.12), (0.3, -0.1), (0.25, 0.22), (-0.12, 0.2)]), stick - 1.2) + nodes[-1][:, None]
    )
    tracks = chain([still(-0.6, 0.75), still(0.45, 0.75)], [0.2, 0.2], shade=-0.4)
    cab, engine = box(-0.1, -0.25, 0.3, 0.5), box(-0.75, 0.1, 0.1, 0.58)
    return [
        *tracks,
        Part(engine),
        *chain(nodes, [0.12, 0.1, 0.07], shade=0.1),
        Part(bucket, shade=-0.3),
        Part(cab, shade=0.25),
    ]


MOVERS: tuple[Family, ...] = (
    Family("quadruped", _quadruped, upright=True),
    Family("fish", _fish),
    Family("butterfly", _butterfly),
    Family("bird", _bird, upright=True),
    Family("excavator", _excavator, upright=True),
)
THIN: tuple[Family, ...] = (
    Family("scissors", _scissors),
    Family("desk-lamp", _desk_lamp, upright=True),
)


def _picket(rng: Rng, _clock: Float64) -> Parts:
    """Pointed boards on a rail."""
    count, thick = rng.integer(4, 8), rng.uniform(0.04, 0.09)
    parts = [Part(box(-1.05, y, 1.05, y + 0.08), shade=-0.25) for y in (-0.25, 0.3)]
    for k in range(count):
        x = -1 + 2 * k / (count - 1)
        board = polygon([(x - thick, 0.6), (x - thick, -0.5), (x, -0.65), (x + thick, -0.5), (x + thick, 0.6)])
        parts.append(Part(board))
    return parts


def _column(rng: Rng, _clock: Float64) -> Parts:
    """A pillar with base and capital."""
    wide = rng.uniform(0.06, 0.16)
    shaft = polygon([(-wide, 0.9), (-wide * 0.8, -0.9), (wide * 0.8, -0.9), (wide, 0.9)])
    ends = [moved(box(-1, -1, 1, 1), 0, y, stretch=(wide * 1.5, 0.06)) for y in (-0.93, 0.93)]
    return [Part(shaft), *(Part(end, shade=-0.2) for end in ends)]


def _truss(rng: Rng, _clock: Float64) -> Parts:
    """Two long beams with diagonal braces between them."""
    gap, thick = rng.uniform(0.15, 0.3), rng.uniform(0.03, 0.05)
    parts: Parts = []
    for y in (-gap, gap):
        parts += chain([still(-1, y), still(1, y)], [thick, thick])
    for k in range(6):
        a, b = (-gap, gap) if k % 2 else (gap, -gap)
        parts += chain([still(-1 + k / 3, a), still(-1 + (k + 1) / 3, b)], [thick * 0.8, thick * 0.8], shade=-0.2)
    turn = DOWN if rng.chance(0.6) else rng.uniform(-0.3, 0.3)
    return [Part(turned(part.points, turn), shade=part.shade) for part in parts]


def _conifer(rng: Rng, _clock: Float64) -> Parts:
    """A fir: a trunk under stacked triangles."""
    wide = rng.uniform(0.35, 0.6)
    parts = [Part(box(-0.07, 0.6, 0.07, 1.0), shade=-0.4)]
    for k in range(3):
        reach, y = wide * (0.6 + 0.2 * k), -1.0 + 0.5 * k
        parts.append(Part(polygon([(-reach, y + 0.75), (reach, y + 0.75), (0, y)]), shade=0.1 * (k - 1)))
    return parts


OCCLUDERS: tuple[Family, ...] = (
    Family("picket", _picket, upright=True, span=True),
    Family("column", _column, upright=True, span=True),
    Family("truss", _truss, upright=True, span=True),
    Family("conifer", _conifer, upright=True, span=True),
)
