"""Shape families of the validation split; no other split has them."""

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


def _teardrop(rng: Rng, _clock: Float64) -> Parts:
    theta = np.arange(40) * (2 * math.pi / 40)
    fat = rng.uniform(0.4, 0.8)
    x = np.cos(theta)
    y = fat * np.sin(theta) * np.sin(theta / 2) ** rng.uniform(0.8, 2.5)
    return [Part(polygon(np.stack([x, y], axis=-1)))]


def _hourglass(rng: Rng, _clock: Float64) -> Parts:
    waist, top, bottom = rng.uniform(0.06, 0.25), rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.8)
    rim = rng.uniform(0.08, 0.16)
    body = polygon([(-top, -1), (top, -1), (waist, 0), (bottom, 1), (-bottom, 1), (-waist, 0)])
    caps = [box(-top - rim, -1 - rim, top + rim, -1 + rim), box(-bottom - rim, 1 - rim, bottom + rim, 1 + rim)]
    return [Part(body), *(Part(cap, shade=-0.3) for cap in caps)]


def _hand(rng: Rng, clock: Float64) -> Parts:
    """A palm with five fingers that open and close."""
    palm, grip = rng.uniform(0.32, 0.45), swing(rng, clock, 0.25)
    parts = [Part(ellipse(0, 0, palm, palm * 1.15), shade=0.05)]
    for k in range(5):
        heading = -2.7 + 0.52 * k
        root = still(palm * 0.8 * math.cos(heading), palm * 0.9 * math.sin(heading))
        curl = grip * (2 - k) * 0.4
        nodes = walk(root, [heading + curl, heading + 2 * curl], [0.35, 0.3])
        parts += chain(nodes, [0.13, 0.11, 0.08], shade=0.1 * (k % 2))
    return [*parts, *chain([still(0, 0.2), still(0, 0.9)], [0.26, 0.24], shade=-0.2)]


def _antenna(rng: Rng, _clock: Float64) -> Parts:
    """A mast with cross-bars of growing length."""
    parts = chain([still(0, -1), still(0, 1)], [0.06, 0.09])
    for k in range(rng.integer(3, 5)):
        reach, y = 0.2 + 0.14 * k, -0.9 + 0.36 * k
        parts += chain([still(-reach, y), still(reach, y)], [0.055, 0.055], shade=0.2)
    return parts


def _bowtie(rng: Rng, clock: Float64) -> Parts:
    flare, wide = rng.uniform(0.35, 0.7), rng.uniform(0.7, 1.1)
    flap = swing(rng, clock, 0.25)
    wing = polygon([(0, -0.1), (wide, -flare), (wide * 0.85, 0), (wide, flare), (0, 0.1)])
    knot = ellipse(0, 0, 0.18, 0.2, corners=16)
    return [Part(turned(wing, flap)), Part(turned(wing, math.pi - flap), shade=0.1), Part(knot, shade=-0.3)]


def _jellyfish(rng: Rng, clock: Float64) -> Parts:
    """A dome with trailing tentacles."""
    theta = np.linspace(math.pi, 2 * math.pi, 20)
    tall = rng.uniform(0.5, 0.9)
    dome = polygon(np.stack([0.7 * np.cos(theta), tall * np.sin(theta)], axis=-1))
    parts: Parts = []
    count = rng.integer(3, 6)
    for k in range(count):
        root = still(-0.5 + k / (count - 1), -0.02)
        bends = [math.pi / 2 + swing(rng, clock, 0.4, cycles=(1.0, 2.5)) for _ in range(3)]
        parts += chain(walk(root, bends, [0.35, 0.3, 0.3]), [0.07, 0.06, 0.05, 0.04], shade=-0.15)
    return [*parts, Part(dome, shade=0.15)]


def _spade(rng: Rng, _clock: Float64) -> Parts:
    """A garden spade: blade, shaft and a grip with a hole."""
    wide = rng.uniform(0.25, 0.4)
    blade = polygon([(-wide, 0.3), (wide, 0.3), (wide, 0.7), (0, 1.1), (-wide, 0.7)])
    grip, opening = ellipse(0, -0.9, 0.28, 0.2), ellipse(0, -0.9, 0.17, 0.1)
    return [
        *chain([still(0, -0.7), still(0, 0.35)], [0.07, 0.07], shade=-0.2),
        Part(blade),
        Part(grip),
        Part(opening, hole=True),
    ]


BODIES: tuple[Family, ...] = (
    Family("teardrop", _teardrop),
    Family("hourglass", _hourglass, upright=True),
    Family("hand", _hand),
    Family("antenna", _antenna, upright=True),
    Family("bowtie", _bowtie),
    Family("jellyfish", _jellyfish, upright=True),
    Family("spade", _spade),
)


def _pebble(rng: Rng, _clock: Float64) -> Parts:
    """A box with unevenly cut corners."""
    cut = rng.array(8, 0.15, 0.5)
    wide, tall = 1.0, rng.uniform(0.6, 1.0)
    corners = []
    for k, (sx, sy) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
        a, b = (sx * wide * (1 - cut[2 * k]), sy * tall), (sx * wide, sy * tall * (1 - cut[2 * k + 1]))
        corners += [b, a] if sx * sy > 0 else [a, b]
    return [Part(polygon(corners))]


def _lattice(rng: Rng, _clock: Float64) -> Parts:
    """Two sets of slanted slats."""
    count, thick = rng.integer(3, 5), rng.uniform(0.025, 0.05)
    parts: Parts = []
    for k in range(count):
        x = -1 + 2 * k / (count - 1)
        for lean in (0.45, -0.45):
            parts += chain(
                [still(x - lean, -0.8), still(x + lean, 0.8)], [thick, thick], shade=0.1 if lean > 0 else -0.1
            )
    return parts


def _obelisk(rng: Rng, _clock: Float64) -> Parts:
    wide = rng.uniform(0.07, 0.16)
    body = polygon([(-wide, 1), (wide, 1), (wide * 0.6, -0.8), (0, -1), (-wide * 0.6, -0.8)])
    return [Part(body), Part(moved(box(-1, -1, 1, 1), 0, 0.95, stretch=(wide * 1.5, 0.07)), shade=-0.2)]


SOLID: tuple[Family, ...] = (Family("pebble", _pebble),)
OCCLUDERS: tuple[Family, ...] = (
    Family("lattice", _lattice, upright=True, span=True),
    Family("obelisk", _obelisk, upright=True, span=True),
)
