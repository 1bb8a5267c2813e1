"""Single-body shape families of the training split: polygons, curves, unions, shapes with holes."""

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
    radial,
    still,
    swing,
    turned,
)
from amodal_diffusion.synthetic.rng import Float64, Rng


def _polygon(rng: Rng, _clock: Float64) -> Parts:
    corners = rng.integer(3, 9)
    gaps = rng.array(corners, 0.5, 1.5)
    theta = np.cumsum(gaps) * (2 * math.pi / gaps.sum())
    radius = rng.array(corners, rng.uniform(0.35, 0.95), 1.0)
    points = np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=-1)
    return [Part(moved(points[None], 0, 0, stretch=(1.0, rng.uniform(0.45, 1.0))))]


def _superellipse(rng: Rng, _clock: Float64) -> Parts:
    theta = np.arange(48) * (2 * math.pi / 48)
    power = 2.0 / rng.uniform(0.7, 6.0)
    cos, sin = np.cos(theta), np.sin(theta)
    x = np.sign(cos) * np.abs(cos) ** power
    y = np.sign(sin) * np.abs(sin) ** power * rng.uniform(0.3, 1.0)
    return [Part(polygon(np.stack([x + rng.uniform(-0.3, 0.3) * y, y], axis=-1)))]


def _star(rng: Rng, _clock: Float64) -> Parts:
    points, inner = rng.integer(3, 9), rng.uniform(0.3, 0.75)
    radius = np.tile([1.0, inner], points) * rng.array(2 * points, 0.85, 1.0)
    return [Part(moved(radial(radius), 0, 0, stretch=(1.0, rng.uniform(0.6, 1.0))))]


def _gear(rng: Rng, _clock: Float64) -> Parts:
    teeth, depth = rng.integer(5, 12), rng.uniform(0.65, 0.85)
    parts = [Part(radial(np.tile([1.0, 1.0, depth, depth], teeth)))]
    if rng.chance(0.7):
        hole = rng.uniform(0.2, 0.5)
        parts.append(Part(ellipse(0, 0, hole, hole), hole=True))
    return parts


def _harmonic(rng: Rng, _clock: Float64) -> Parts:
    return [Part(moved(radial(_wavy(rng, np.zeros(1))), 0, 0, stretch=(1.0, rng.uniform(0.5, 1.0))))]


def _jelly(rng: Rng, clock: Float64) -> Parts:
    return [Part(moved(radial(_wavy(rng, clock)), 0, 0, stretch=(1.0, rng.uniform(0.5, 1.0))))]


def _wavy(rng: Rng, clock: Float64) -> Float64:
    """Radii ``[F, 56]``: one plus a few random harmonics that travel with the clock."""
    theta = np.arange(56) * (2 * math.pi / 56)
    radius = np.ones((len(clock), 56))
    for harmonic in range(2, rng.integer(3, 8)):
        amplitude = rng.uniform(0.0, 0.75) / harmonic**0.8
        speed = rng.uniform(-4.0, 4.0)
        radius += amplitude * np.sin(harmonic * theta + rng.angle() + speed * clock[:, None])
    return np.maximum(radius, 0.25)


def _petals(rng: Rng, _clock: Float64) -> Parts:
    count, reach, thick = rng.integer(4, 9), rng.uniform(0.45, 0.7), rng.uniform(0.1, 0.22)
    spread = rng.uniform(0.75, 1.0) * 2 * math.pi
    petal = ellipse(reach, 0, 0.4, thick, corners=16)
    parts = [Part(turned(petal, spread * k / count), shade=0.15 * (k % 2)) for k in range(count)]
    heart = rng.uniform(0.2, 0.4)
    return [*parts, Part(ellipse(0, 0, heart, heart, corners=18), shade=-0.25)]


def _glyph(rng: Rng, _clock: Float64) -> Parts:
    """Strokes between the nodes of a 3 x 3 grid, like a letter of an unknown script."""
    tall = rng.uniform(0.7, 1.5)
    nodes = [still(x, y * tall) for y in (-1.0, 0.0, 1.0) for x in (-0.8, 0.0, 0.8)]
    radius = rng.uniform(0.12, 0.3)
    here, parts = rng.integer(0, 8), []
    for _ in range(rng.integer(3, 6)):
        there = (here + rng.integer(1, 8)) % 9
        parts += chain([nodes[here], nodes[there]], [radius, radius], shade=rng.uniform(-0.1, 0.1))
        here = there if rng.chance(0.75) else here
    return parts


def _union(rng: Rng, _clock: Float64) -> Parts:
    """Two to five overlapping simple bodies."""
    parts: Parts = []
    x = y = 0.0
    for _ in range(rng.integer(2, 5)):
        rx, ry = rng.uniform(0.25, 0.8), rng.uniform(0.2, 0.7)
        body = rng.choice((ellipse(0, 0, rx, ry, corners=22), box(-rx, -ry, rx, ry), *_triangles(rx, ry)))
        turn = rng.angle() if rng.chance(0.5) else 0.0
        parts.append(Part(moved(turned(body, turn), x, y), shade=rng.uniform(-0.3, 0.3)))
        heading, reach = rng.angle(), rng.uniform(0.4, 0.9)
        x, y = x + reach * rx * math.cos(heading), y + reach * ry * math.sin(heading)
    return parts


def _triangles(rx: float, ry: float) -> tuple[Float64, Float64]:
    return polygon([(-rx, ry), (rx, ry), (0, -ry)]), polygon([(-rx, -ry), (rx, -ry), (-rx, ry)])


def _ring(rng: Rng, _clock: Float64) -> Parts:
    flat, inner = rng.uniform(0.5, 1.0), rng.uniform(0.45, 0.8)
    parts = [Part(ellipse(0, 0, 1, flat, corners=40)), Part(ellipse(0, 0, inner, inner * flat), hole=True)]
    if rng.chance(0.4):
        parts[1] = Part(moved(parts[1].points, rng.uniform(0, 0.9 - inner), 0), hole=True)
    return parts


def _window(rng: Rng, _clock: Float64) -> Parts:
    """A plate with one to six rectangular holes."""
    columns, rows = rng.integer(1, 3), rng.integer(1, 2)
    wide, tall, rim = rng.uniform(0.7, 1.3), 1.0, rng.uniform(0.06, 0.16)
    parts = [Part(box(0, 0, wide, tall))]
    cell_x, cell_y = (wide - rim) / columns, (tall - rim) / rows
    for i in range(columns):
        for j in range(rows):
            x, y = rim + i * cell_x, rim + j * cell_y
            parts.append(Part(box(x, y, x + cell_x - rim, y + cell_y - rim), hole=True))
    return parts


def _crescent(rng: Rng, _clock: Float64) -> Parts:
    theta = np.linspace(-1, 1, 20) * rng.uniform(1.6, 2.6)
    thick = rng.uniform(0.25, 0.6) * (1 - (theta / theta[-1]) ** 2)
    outer = np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    inner = outer * (1 - thick[:, None])
    return [Part(polygon(np.concatenate([outer, inner[::-1]])))]


def _blocks(rng: Rng, _clock: Float64) -> Parts:
    """Two to seven connected cells of a grid."""
    cells = [(0, 0)]
    for _ in range(rng.integer(2, 6)):
        x, y = rng.choice(cells)
        dx, dy = rng.choice(((1, 0), (-1, 0), (0, 1), (0, -1)))
        if (x + dx, y + dy) not in cells:
            cells.append((x + dx, y + dy))
    tall = rng.uniform(0.7, 1.3)
    return [Part(box(x, y * tall, x + 1, (y + 1) * tall), shade=rng.uniform(-0.15, 0.15)) for x, y in cells]


def _turnery(rng: Rng, _clock: Float64) -> Parts:
    """A body of revolution seen from the side: vases, pins, bells."""
    heights = np.linspace(-1, 1, 24)
    knots = rng.array(rng.integer(4, 7), 0.12, 0.8)
    radius = np.interp(heights, np.linspace(-1, 1, len(knots)), knots)
    radius = np.convolve(np.pad(radius, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    right = np.stack([radius, heights], axis=-1)
    left = np.stack([-radius, heights], axis=-1)[::-1]
    return [Part(polygon(np.concatenate([right, left])))]


def _flag(rng: Rng, clock: Float64) -> Parts:
    """A cloth that waves from a pole."""
    along = np.linspace(0, 1, 14)
    wave = 0.16 * along * np.sin(7 * along - rng.uniform(4, 14) * clock[:, None] + rng.angle())
    tall = rng.uniform(0.5, 0.8)
    top = np.stack([np.broadcast_to(along * 1.2, wave.shape), wave - 1], axis=-1)
    taper = np.asarray([0.0, rng.uniform(0.4, 1.0) * tall])
    bottom = top + np.where(along[:, None] > 0.5, taper, [0.0, tall])
    cloth = Part(np.concatenate([top, bottom[:, ::-1]], axis=1), shade=0.2)
    return [Part(box(-0.06, -1.1, 0.05, rng.uniform(0.4, 1.2)), shade=-0.2), cloth]


def _pendulum(rng: Rng, clock: Float64) -> Parts:
    """A bob that swings below a bracket."""
    length, bob = rng.uniform(0.8, 1.6), rng.uniform(0.25, 0.5)
    swung = swing(rng, clock, rng.uniform(0.2, 0.8))
    rod, weight = box(-0.07, 0, 0.07, length), ellipse(0, length, bob, bob * rng.uniform(0.6, 1.2))
    bracket = box(-0.5, -0.2, 0.5, 0.05)
    return [Part(bracket), Part(turned(rod, swung), shade=-0.2), Part(turned(weight, swung), shade=0.2)]


BODIES: tuple[Family, ...] = (
    Family("polygon", _polygon),
    Family("superellipse", _superellipse),
    Family("star", _star),
    Family("gear", _gear),
    Family("harmonic", _harmonic),
    Family("jelly", _jelly),
    Family("petals", _petals),
    Family("glyph", _glyph),
    Family("union", _union),
    Family("ring", _ring),
    Family("window", _window),
    Family("crescent", _crescent),
    Family("blocks", _blocks),
    Family("turnery", _turnery, upright=True),
    Family("flag", _flag, upright=True),
    Family("pendulum", _pendulum, upright=True),
)
SOLID: tuple[Family, ...] = tuple(
    f for f in BODIES if f.name in ("polygon", "superellipse", "harmonic", "jelly", "union")
)
