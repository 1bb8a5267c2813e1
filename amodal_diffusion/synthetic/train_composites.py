"""Composite shape families of the training split: tools, tables, beetles, and combinations of other families."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from amodal_diffusion.synthetic.outlines import (
    Family,
    Part,
    Parts,
    box,
    chain,
    ellipse,
    fit,
    moved,
    polygon,
    radial,
    still,
    swing,
    turned,
    walk,
)
from amodal_diffusion.synthetic.rng import Float64, Rng


def _totem(rng: Rng, _clock: Float64) -> Parts:
    """A mirror-symmetric stack of two to five simple bodies, some with ears or arms."""
    parts: Parts = []
    y = 0.0
    for level in range(rng.integer(2, 5)):
        rx, ry = rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.45)
        top = rx * rng.uniform(0.2, 1.2)
        trapeze = polygon([(-top, -ry), (top, -ry), (rx, ry), (-rx, ry)])
        body = rng.choice((ellipse(0, 0, rx, ry * 1.1), box(-rx, -ry, rx, ry), trapeze))
        parts.append(Part(moved(body, 0, y), shade=0.12 * (level % 2)))
        if rng.chance(0.3):
            raised, reach = rng.uniform(-1.2, 1.2), rng.uniform(0.3, 0.7)
            for side in (-1.0, 1.0):
                tip = still(side * (rx * 0.7 + reach * math.cos(raised)), y + reach * math.sin(raised))
                parts += chain([still(side * rx * 0.6, y), tip], [0.12, rng.uniform(0.05, 0.12)], shade=-0.15)
        y -= ry * 1.7
    return parts


def _tool(rng: Rng, _clock: Float64) -> Parts:
    """A handle with a head: rackets, axes, brushes, spoons, signs."""
    thick, head = rng.uniform(0.05, 0.11), rng.uniform(0.2, 0.5)
    slope = rng.uniform(0.4, 1.4)
    plate = polygon(
        [(-head, -head * slope), (head * rng.uniform(0.1, 1.0), -head), (head, head * slope), (-head * 0.8, head)]
    )
    lobes = radial(1 + 0.4 * np.sin(rng.integer(2, 5) * np.arange(32) * (2 * math.pi / 32))) * head
    end = rng.choice((ellipse(0, 0, head, head * slope), plate, lobes))
    parts = [
        *chain([still(0, -0.9), still(0, 1)], [thick, thick], shade=-0.2),
        Part(moved(end, rng.uniform(-0.1, 0.1), -0.9)),
    ]
    if rng.chance(0.3):
        parts.append(Part(ellipse(0, -0.9, head * 0.55, head * min(slope, 1.0) * 0.55, corners=18), hole=True))
    return parts


def _table(rng: Rng, _clock: Float64) -> Parts:
    """A top on two to four legs that may splay, with or without a cross-bar."""
    wide, tall, thick = 1.0, rng.uniform(0.5, 1.4), rng.uniform(0.05, 0.12)
    splay, legs = rng.uniform(-0.15, 0.25), rng.integer(2, 4)
    parts = [Part(box(-wide, -0.1, wide, rng.uniform(0.02, 0.14)))]
    for k in range(legs):
        x = (-1 + 2 * k / (legs - 1)) * wide * 0.85
        parts += chain([still(x, 0), still(x * (1 + splay), tall)], [thick, thick * 0.8], shade=-0.2)
    if rng.chance(0.5):
        parts += chain([still(-0.85, tall * 0.6), still(0.85, tall * 0.6)], [thick * 0.7, thick * 0.7], shade=-0.3)
    if rng.chance(0.5):
        x = rng.uniform(-0.6, 0.6)
        parts.append(Part(moved(ellipse(0, -0.3, rng.uniform(0.15, 0.3), 0.25), x, 0), shade=0.2))
    return parts


def _beetle(rng: Rng, clock: Float64) -> Parts:
    """A segmented body with pairs of moving legs, seen from above."""
    segments = rng.integer(2, 4)
    parts: Parts = []
    legs: Parts = []
    x = 0.0
    for k in range(segments):
        rx, ry = rng.uniform(0.2, 0.45), rng.uniform(0.15, 0.4)
        x += rx * 0.8
        parts.append(Part(ellipse(x, 0, rx, ry, corners=22), shade=0.2 - 0.15 * k))
        for side in (-1.0, 1.0):
            step = swing(rng, clock, 0.35, cycles=(1.0, 4.0))
            reach = rng.uniform(0.25, 0.45)
            nodes = walk(still(x, side * ry * 0.7), [side * (1.2 + step), side * (1.9 + step)], [reach, reach * 0.8])
            legs += chain(nodes, [0.06, 0.05, 0.035], shade=-0.3)
        x += rx * 0.8
    return [*legs, *parts]


def _zigzag_stick(rng: Rng, clock: Float64) -> Parts:
    """A bent rod or spring that stretches."""
    bends, thick = rng.integer(3, 8), rng.uniform(0.05, 0.14)
    stretch = 1 + swing(rng, clock, rng.uniform(0, 0.3))
    tall = rng.uniform(0.15, 0.5)
    nodes = []
    for k in range(bends + 1):
        x = stretch * (-1 + 2 * k / bends)
        nodes.append(np.stack([x, np.full_like(x, tall if k % 2 else -tall)], axis=-1))
    return chain(nodes, [thick] * (bends + 1))


def _arcs(rng: Rng, _clock: Float64) -> Parts:
    """One to three open arcs with nearby centers, like hooks, cups and magnets."""
    parts: Parts = []
    for _ in range(rng.integer(1, 3)):
        start, sweep, radius = rng.angle(), rng.uniform(2.0, 5.0), rng.uniform(0.35, 0.8)
        x, y = rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25)
        around = [
            still(x + radius * math.cos(a), y + radius * math.sin(a)) for a in np.linspace(start, start + sweep, 12)
        ]
        thick = rng.uniform(0.07, 0.18)
        parts += chain(
            around, list(np.linspace(thick, thick * rng.uniform(0.5, 1.0), 12)), shade=rng.uniform(-0.2, 0.2)
        )
    return parts


def _lumps(rng: Rng, clock: Float64) -> Parts:
    """A body with two to six outgrowths of different kinds on its rim."""
    rx, ry = rng.uniform(0.4, 0.7), rng.uniform(0.25, 0.6)
    parts = [Part(ellipse(0, 0, rx, ry))]
    for _ in range(rng.integer(2, 6)):
        heading, reach, thick = rng.angle(), rng.uniform(0.2, 0.7), rng.uniform(0.08, 0.25)
        spot = (rx * 0.9 * math.cos(heading), ry * 0.9 * math.sin(heading))
        thorn = polygon([(0, -thick), (reach, rng.uniform(-0.2, 0.2)), (0, thick)])
        piece = rng.choice(
            (ellipse(reach / 2, 0, reach / 2, thick, corners=16), box(-0.1, -thick, reach, thick), thorn)
        )
        wag = heading + swing(rng, clock, rng.uniform(0, 0.4))
        parts.append(Part(moved(turned(piece, wag), *spot), shade=rng.uniform(-0.25, 0.15)))
    return parts


MANUFACTURED: tuple[Family, ...] = (
    Family("totem", _totem, upright=True),
    Family("tool", _tool),
    Family("table", _table, upright=True),
    Family("beetle", _beetle),
    Family("zigzag-stick", _zigzag_stick),
    Family("arcs", _arcs),
    Family("lumps", _lumps),
)


def composites(families: Sequence[Family]) -> tuple[Family, ...]:
    """Families that combine, cut or mirror shapes of the given families, and families of symmetric outlines."""
    simple = tuple(families)

    def hybrid(rng: Rng, clock: Float64) -> Parts:
        """Two overlapping shapes; the second may swing about its root on the first."""
        parts = fit(rng.choice(simple).build(rng, clock))
        size, heading = rng.uniform(0.35, 0.9), rng.angle()
        lean = heading + swing(rng, clock, rng.uniform(0.0, 0.5) if rng.chance(0.4) else 0.0)
        root = (rng.uniform(0.15, 0.4) * math.cos(heading), rng.uniform(0.15, 0.4) * math.sin(heading))
        for part in fit(rng.choice(simple).build(rng, clock)):
            points = moved(turned(moved(part.points * size, 0.4 * size, 0.0), lean), *root)
            parts.append(replace(part, points=points))
        return parts

    def bitten(rng: Rng, clock: Float64) -> Parts:
        """A shape with one to three pieces cut out, at its rim or inside."""
        parts = fit(rng.choice(simple).build(rng, clock))
        for _ in range(rng.integer(1, 3)):
            rx, ry = rng.uniform(0.05, 0.2), rng.uniform(0.05, 0.2)
            bite = rng.choice((ellipse(0, 0, rx, ry, corners=18), box(-rx, -ry, rx, ry)))
            away, heading = rng.uniform(0.05, 0.5), rng.angle()
            piece = moved(turned(bite, rng.angle()), away * math.cos(heading), away * math.sin(heading))
            parts.append(Part(piece, hole=True))
        return parts

    def twins(rng: Rng, clock: Float64) -> Parts:
        """A shape and its mirror image, joined by a bridge."""
        half = fit(rng.choice(simple).build(rng, clock))
        turn, apart = rng.angle(), rng.uniform(0.25, 0.55)
        parts: Parts = []
        for side in (-1.0, 1.0):
            for part in half:
                points = moved(turned(part.points, turn), apart, 0.0) * np.asarray([side, 1.0])
                parts.append(replace(part, points=points))
        thick = rng.uniform(0.03, 0.12)
        return [*parts, Part(box(-apart, -thick, apart, thick), shade=rng.uniform(-0.2, 0.2))]

    return (
        Family("hybrid", hybrid),
        Family("hybrid-upright", hybrid, upright=True),
        Family("bitten", bitten),
        Family("twins", twins),
        Family("mirrored", _mirrored, upright=True),
        Family("rosette", _rosette),
    )


def _mirrored(rng: Rng, clock: Float64) -> Parts:
    """A left-right symmetric outline, smooth or angular, that may pulsate."""
    count = rng.integer(5, 14)
    half = rng.array(count, rng.uniform(0.25, 0.7), 1.0)
    radius = np.concatenate([half, half[-2:0:-1]])
    if rng.chance(0.5):  # smooth: the same knots on a finer circle
        at = np.linspace(0, len(radius), 56, endpoint=False)
        radius = np.interp(at, np.arange(len(radius) + 1), np.append(radius, radius[0]))
        radius = np.convolve(np.pad(radius, 2, mode="wrap"), np.ones(5) / 5, mode="valid")
    breath = 1 + swing(rng, clock, rng.uniform(0.0, 0.15) if rng.chance(0.3) else 0.0)
    points = radial(radius, start=-math.pi / 2)
    stretch = np.stack([breath * rng.uniform(0.45, 1.0), np.ones_like(breath)], axis=-1)[:, None]
    return [Part(points * stretch)]


def _rosette(rng: Rng, _clock: Float64) -> Parts:
    """An outline with three- to eightfold rotational symmetry, with or without a central hole."""
    fold, knots = rng.integer(3, 8), rng.integer(2, 4)
    radius = np.tile(rng.array(knots, 0.4, 1.0), fold)
    at = np.linspace(0, len(radius), 72, endpoint=False)
    parts = [Part(radial(np.interp(at, np.arange(len(radius) + 1), np.append(radius, radius[0]))))]
    if rng.chance(0.3):
        hole = rng.uniform(0.1, 0.35)
        parts.append(Part(ellipse(0, 0, hole, hole), hole=True))
    return parts
