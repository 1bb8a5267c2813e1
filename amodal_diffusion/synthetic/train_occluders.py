"""Frame-sized occluder families of the training split: bars, fences, walls, nets."""

from __future__ import annotations

import math

from amodal_diffusion.synthetic.outlines import Family, Part, Parts, box, chain, still, turned
from amodal_diffusion.synthetic.rng import Float64, Rng


def _bar(rng: Rng, _clock: Float64) -> Parts:
    thick, lean = rng.uniform(0.02, 0.09), rng.uniform(-0.5, 0.5) if rng.chance(0.5) else 0.0
    bar = box(-1, -thick, 1, thick)
    return [Part(turned(bar, lean + (0.0 if rng.chance(0.3) else math.pi / 2)))]


def _bars(rng: Rng, _clock: Float64) -> Parts:
    """Two to five parallel bars at uneven distances."""
    count, lean = rng.integer(2, 5), rng.uniform(-0.4, 0.4)
    upright = 0.0 if rng.chance(0.25) else math.pi / 2
    parts, y = [], -1.0
    for _ in range(count):
        thick = rng.uniform(0.05, 0.2)
        parts.append(Part(turned(box(-1.2, y, 1.2, y + thick), lean + upright), shade=rng.uniform(-0.1, 0.1)))
        y += thick + rng.uniform(0.15, 0.6)
    return parts


def _fence(rng: Rng, _clock: Float64) -> Parts:
    posts, thick = rng.integer(4, 8), rng.uniform(0.025, 0.07)
    parts = [Part(box(-1.05, y, 1.05, y + rng.uniform(0.05, 0.1)), shade=-0.15) for y in (-0.4, 0.25)]
    for k in range(posts):
        x = -1 + 2 * k / (posts - 1)
        parts.append(Part(box(x - thick, -0.6, x + thick, 0.6)))
    return parts


def _wall(rng: Rng, _clock: Float64) -> Parts:
    """A large plate, with or without an opening."""
    wide, tall = rng.uniform(0.25, 0.8), rng.uniform(0.5, 1.0)
    parts = [Part(turned(box(-wide, -tall, wide, tall), rng.uniform(-0.3, 0.3)))]
    if rng.chance(0.35):
        x, y = rng.uniform(-0.5, 0.2) * wide, rng.uniform(-0.6, 0.1) * tall
        parts.append(Part(box(x, y, x + rng.uniform(0.3, 0.6) * wide, y + rng.uniform(0.3, 0.6) * tall), hole=True))
    return parts


def _net(rng: Rng, _clock: Float64) -> Parts:
    """A grid of thin rods."""
    count, thick, lean = rng.integer(3, 6), rng.uniform(0.015, 0.04), rng.uniform(-0.4, 0.4)
    parts: Parts = []
    for k in range(count):
        at = -1 + 2 * k / (count - 1)
        parts += chain([still(at, -1), still(at, 1)], [thick, thick])
        parts += chain([still(-1, at), still(1, at)], [thick, thick], shade=-0.15)
    return [Part(turned(part.points, lean), shade=part.shade) for part in parts]


OCCLUDERS: tuple[Family, ...] = (
    Family("bar", _bar, upright=True, span=True),
    Family("bars", _bars, upright=True, span=True),
    Family("fence", _fence, upright=True, span=True),
    Family("wall", _wall, upright=True, span=True),
    Family("net", _net, upright=True, span=True),
)
