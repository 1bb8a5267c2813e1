"""Shape families of the training split that are made of other families: joined, cut out, mirrored, repeated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from amodal_diffusion.data.scenes.dice import Dice, Float64
from amodal_diffusion.data.scenes.outlines import Family, Part, Parts, box, ellipse, fit, moved, radial, swing, turned


def composites(families: Sequence[Family]) -> tuple[Family, ...]:
    """Families whose individuals are put together from individuals of the given ones, and symmetric outlines."""
    simple = tuple(families)

    def hybrid(dice: Dice, clock: Float64) -> Parts:
        """Two shapes that overlap, the second on the rim of the first, still or swinging about its root."""
        parts = fit(dice.choice(simple).build(dice, clock))
        size, heading = dice.uniform(0.35, 0.9), dice.angle()
        lean = heading + swing(dice, clock, dice.uniform(0.0, 0.5) if dice.chance(0.4) else 0.0)
        root = (dice.uniform(0.15, 0.4) * math.cos(heading), dice.uniform(0.15, 0.4) * math.sin(heading))
        for part in fit(dice.choice(simple).build(dice, clock)):
            points = moved(turned(moved(part.points * size, 0.4 * size, 0.0), lean), *root)
            parts.append(replace(part, points=points))
        return parts

    def bitten(dice: Dice, clock: Float64) -> Parts:
        """A shape with one to three pieces cut out of it, at its rim or inside."""
        parts = fit(dice.choice(simple).build(dice, clock))
        for _ in range(dice.integer(1, 3)):
            rx, ry = dice.uniform(0.05, 0.2), dice.uniform(0.05, 0.2)
            bite = dice.choice((ellipse(0, 0, rx, ry, corners=18), box(-rx, -ry, rx, ry)))
            away, heading = dice.uniform(0.05, 0.5), dice.angle()
            piece = moved(turned(bite, dice.angle()), away * math.cos(heading), away * math.sin(heading))
            parts.append(Part(piece, hole=True))
        return parts

    def twins(dice: Dice, clock: Float64) -> Parts:
        """A shape and its mirror image, joined by a bridge."""
        half = fit(dice.choice(simple).build(dice, clock))
        turn, apart = dice.angle(), dice.uniform(0.25, 0.55)
        parts: Parts = []
        for side in (-1.0, 1.0):
            for part in half:
                points = moved(turned(part.points, turn), apart, 0.0) * np.asarray([side, 1.0])
                parts.append(replace(part, points=points))
        thick = dice.uniform(0.03, 0.12)
        return [*parts, Part(box(-apart, -thick, apart, thick), shade=dice.uniform(-0.2, 0.2))]

    return (
        Family("hybrid", hybrid),
        Family("hybrid-upright", hybrid, upright=True),
        Family("bitten", bitten),
        Family("twins", twins),
        Family("mirrored", _mirrored, upright=True),
        Family("rosette", _rosette),
    )


def _mirrored(dice: Dice, clock: Float64) -> Parts:
    """An outline that is the same on its left and right, smooth or with corners, and may breathe."""
    count = dice.integer(5, 14)
    half = dice.array(count, dice.uniform(0.25, 0.7), 1.0)
    radius = np.concatenate([half, half[-2:0:-1]])
    if dice.chance(0.5):  # smooth: the same knots on a finer circle
        at = np.linspace(0, len(radius), 56, endpoint=False)
        radius = np.interp(at, np.arange(len(radius) + 1), np.append(radius, radius[0]))
        radius = np.convolve(np.pad(radius, 2, mode="wrap"), np.ones(5) / 5, mode="valid")
    breath = 1 + swing(dice, clock, dice.uniform(0.0, 0.15) if dice.chance(0.3) else 0.0)
    points = radial(radius, start=-math.pi / 2)
    stretch = np.stack([breath * dice.uniform(0.45, 1.0), np.ones_like(breath)], axis=-1)[:, None]
    return [Part(points * stretch)]


def _rosette(dice: Dice, _clock: Float64) -> Parts:
    """An outline that repeats itself three to eight times around, with or without a hole in its middle."""
    fold, knots = dice.integer(3, 8), dice.integer(2, 4)
    radius = np.tile(dice.array(knots, 0.4, 1.0), fold)
    at = np.linspace(0, len(radius), 72, endpoint=False)
    parts = [Part(radial(np.interp(at, np.arange(len(radius) + 1), np.append(radius, radius[0]))))]
    if dice.chance(0.3):
        hole = dice.uniform(0.1, 0.35)
        parts.append(Part(ellipse(0, 0, hole, hole), hole=True))
    return parts
