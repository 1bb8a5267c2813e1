"""Texture families: patterns on a plane, colored with a palette; each split has its own."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from amodal_diffusion.synthetic.rng import Float64, Rng

Pattern = Callable[[Float64, Float64], Float64]
"""Map coordinates u, v (of equal shape, in units of the object's size) to palette positions in [0, 1]."""
PatternFamily = Callable[[Rng], Pattern]


@dataclass(frozen=True)
class Texture:
    """A pattern and its palette.

    Attributes:
        pattern: see `Pattern`.
        palette: RGB in [0, 1], float64 ``[K, 3]``, for pattern values from 0 to 1.
    """

    pattern: Pattern
    palette: Float64

    def color(self, u: Float64, v: Float64) -> Float64:
        """RGB in [0, 1] at the coordinates, ``[..., 3]``."""
        at = np.clip(self.pattern(u, v), 0.0, 1.0) * (len(self.palette) - 1)
        low = np.minimum(at.astype(np.int64), len(self.palette) - 2)
        part = (at - low)[..., None]
        return np.asarray(self.palette[low] * (1 - part) + self.palette[low + 1] * part)


def draw_texture(rng: Rng, families: tuple[PatternFamily, ...], *, contrast: float = 1.0) -> Texture:
    """Draw a texture with two or three colors; a higher ``contrast`` makes them differ more."""
    hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.15, 0.95), rng.uniform(0.3, 0.95)
    colors = []
    for _ in range(rng.integer(2, 3)):
        colors.append(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
        hue += contrast * rng.uniform(-0.25, 0.25)
        saturation = min(max(saturation + contrast * rng.uniform(-0.4, 0.4), 0.05), 1.0)
        value = min(max(value + contrast * rng.sign() * rng.uniform(0.1, 0.45), 0.1), 1.0)
    return Texture(rng.choice(families)(rng), np.asarray(colors))


def _slanted(rng: Rng) -> Callable[[Float64, Float64], Float64]:
    """The coordinate along a random direction."""
    turn = rng.angle()
    cos, sin = math.cos(turn), math.sin(turn)
    return lambda u, v: cos * u + sin * v


def _plain(rng: Rng) -> Pattern:
    level = rng.uniform(0, 1)
    return lambda u, _v: np.full(u.shape, level)


def _gradient(rng: Rng) -> Pattern:
    along = _slanted(rng)
    return lambda u, v: 0.5 + along(u, v)


def _stripes(rng: Rng) -> Pattern:
    along, rate, duty = _slanted(rng), rng.uniform(4, 12), rng.uniform(0.3, 0.7)
    return lambda u, v: (np.mod(along(u, v) * rate, 1.0) < duty).astype(np.float64)


def _checker(rng: Rng) -> Pattern:
    along, across, rate = _slanted(rng), _slanted(rng), rng.uniform(4, 10)
    return lambda u, v: np.mod(np.floor(along(u, v) * rate) + np.floor(across(v, -u) * rate), 2.0)


def _dots(rng: Rng) -> Pattern:
    rate, radius = rng.uniform(4, 9), rng.uniform(0.2, 0.42)
    return lambda u, v: (np.hypot(np.mod(u * rate, 1.0) - 0.5, np.mod(v * rate, 1.0) - 0.5) < radius).astype(np.float64)


def _plasma(rng: Rng) -> Pattern:
    waves = [(_slanted(rng), rng.uniform(3, 16), rng.angle()) for _ in range(3)]
    return lambda u, v: np.asarray(0.5 + sum(np.sin(along(u, v) * rate + phase) for along, rate, phase in waves) / 6)


def _clouds(rng: Rng) -> Pattern:
    grid, rate = rng.array((16, 16), 0.0, 1.0), rng.uniform(4, 10)

    def pattern(u: Float64, v: Float64) -> Float64:
        x, y = np.mod(u * rate, 16.0), np.mod(v * rate, 16.0)
        i, j = np.minimum(x.astype(np.int64), 15), np.minimum(y.astype(np.int64), 15)
        fx, fy = x - i, y - j
        top = grid[j, i] * (1 - fx) + grid[j, (i + 1) % 16] * fx
        bottom = grid[(j + 1) % 16, i] * (1 - fx) + grid[(j + 1) % 16, (i + 1) % 16] * fx
        return np.asarray(top * (1 - fy) + bottom * fy)

    return pattern


def _rings(rng: Rng) -> Pattern:
    x, y, rate = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(12, 40)
    return lambda u, v: 0.5 + 0.5 * np.sin(np.hypot(u - x, v - y) * rate)


def _bricks(rng: Rng) -> Pattern:
    rate, joint = rng.uniform(5, 10), rng.uniform(0.1, 0.2)

    def pattern(u: Float64, v: Float64) -> Float64:
        row = np.floor(v * rate)
        x = np.mod(u * rate / 2 + 0.5 * np.mod(row, 2.0), 1.0)
        return ((x > joint / 2) & (np.mod(v * rate, 1.0) > joint)).astype(np.float64)

    return pattern


def _zigzag(rng: Rng) -> Pattern:
    rate, steep = rng.uniform(5, 10), rng.uniform(0.5, 1.5)
    return lambda u, v: np.mod(np.floor((v + steep * np.abs(np.mod(u * 4, 1.0) - 0.5) / 2) * rate), 2.0)


def _plaid(rng: Rng) -> Pattern:
    rates = rng.array(2, 4.0, 9.0)
    widths = rng.array(2, 0.3, 0.6)
    return lambda u, v: 0.5 * (np.mod(u * rates[0], 1.0) < widths[0]) + 0.5 * (np.mod(v * rates[1], 1.0) < widths[1])


def _scales(rng: Rng) -> Pattern:
    rate = rng.uniform(4, 8)

    def pattern(u: Float64, v: Float64) -> Float64:
        row = np.floor(v * rate)
        x = np.mod(u * rate + 0.5 * np.mod(row, 2.0), 1.0) - 0.5
        return np.asarray(np.clip(np.hypot(x, np.mod(v * rate, 1.0)) / 1.1, 0.0, 1.0))

    return pattern


def _patches(rng: Rng) -> Pattern:
    """Voronoi cells, each of one tone, like a giraffe's coat."""
    seeds, tones = rng.array((14, 2), -0.6, 0.6), rng.array(14, 0.0, 1.0)

    def pattern(u: Float64, v: Float64) -> Float64:
        distance = (u[..., None] - seeds[:, 0]) ** 2 + (v[..., None] - seeds[:, 1]) ** 2
        return np.asarray(tones[distance.argmin(axis=-1)])

    return pattern


def _ripples(rng: Rng) -> Pattern:
    rate, sway, bend = rng.uniform(16, 40), rng.uniform(0.04, 0.12), rng.uniform(6, 14)
    return lambda u, v: 0.5 + 0.5 * np.sin((v + sway * np.sin(u * bend)) * rate)


TRAIN: tuple[PatternFamily, ...] = (_plain, _gradient, _stripes, _checker, _dots, _plasma, _clouds, _rings)
VALIDATION: tuple[PatternFamily, ...] = (_bricks, _zigzag)
TEST: tuple[PatternFamily, ...] = (_plaid, _scales, _patches, _ripples)
