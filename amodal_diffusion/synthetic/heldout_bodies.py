"""Compact shape families of test-v1; no other split has them. Frozen with test-v1."""

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
    swing,
    turned,
    walk,
)
from amodal_diffusion.synthetic.rng import Float64, Rng


def _apple(rng: Rng, _clock: Float64) -> Parts:
    theta = np.arange(40) * (2 * math.pi / 40)
    dent = rng.uniform(0.15, 0.4)
    radius = (
        1 - dent * np.exp(-((theta - 1.5 * math.pi) ** 2) / 0.15) - 0.15 * np.exp(-((theta - 0.5 * math.pi) ** 2) / 0.1)
    )
    body = np.stack([radius * np.cos(theta), radius * np.sin(theta) * rng.uniform(0.85, 1.0)], axis=-1)
    leaf = turned(ellipse(0.3, -0.95, 0.25, 0.1, corners=16), rng.uniform(-0.4, 0.2), about=(0.05, -0.9))
    return [
        *chain([still(0, -0.6), still(0.05, -1.05)], [0.06, 0.05], shade=-0.4),
        Part(polygon(body)),
        Part(leaf, shade=0.3),
    ]


def _bell(rng: Rng, clock: Float64) -> Parts:
    flare = rng.uniform(0.8, 1.1)
    side = [(0.15, -0.95), (0.45, -0.75), (0.55, -0.2), (0.65, 0.3), (flare, 0.65), (flare, 0.75)]
    body = polygon([*side, *((-x, y) for x, y in reversed(side))])
    clapper = turned(ellipse(0, 0.85, 0.17, 0.17, corners=16), swing(rng, clock, 0.25))
    return [Part(clapper, shade=-0.35), Part(body), Part(box(-flare, 0.62, flare, 0.76), shade=0.2)]


def _barrel(rng: Rng, _clock: Float64) -> Parts:
    y = np.linspace(-1, 1, 13)
    bulge = rng.uniform(0.1, 0.3)
    x = rng.uniform(0.5, 0.7) + bulge * (1 - y * y)
    body = np.concatenate([np.stack([x, y], axis=-1), np.stack([-x, y], axis=-1)[::-1]])
    hoops = [Part(box(-x[k], y[k] - 0.07, x[k], y[k] + 0.07), shade=-0.35) for k in (3, 9)]
    return [Part(polygon(body)), *hoops]


def _shield(rng: Rng, _clock: Float64) -> Parts:
    y = np.linspace(-0.2, 1, 9)
    x = 0.8 * np.sqrt(np.maximum(1 - ((y + 0.2) / 1.2) ** rng.uniform(1.5, 2.5), 0))
    side = [(0.8, -0.9), *zip(x.tolist(), y.tolist(), strict=True)]
    outline = polygon([(0.0, -rng.uniform(0.75, 1.0)), *side, *((-a, b) for a, b in reversed(side))])
    return [
        Part(outline),
        Part(box(-0.09, -0.8, 0.09, 0.9), shade=0.3),
        Part(box(-0.78, -0.35, 0.78, -0.17), shade=0.3),
    ]


def _bus(rng: Rng, _clock: Float64) -> Parts:
    long, tall = rng.uniform(0.9, 1.2), rng.uniform(0.45, 0.65)
    body = polygon(
        [(-long, 0.4), (-long, -tall + 0.1), (-long + 0.1, -tall), (long - 0.15, -tall), (long, -0.1), (long, 0.4)]
    )
    panes = [
        Part(box(-0.9 * long + k * 0.4 * long, -tall + 0.14, -0.6 * long + k * 0.4 * long, -0.1), shade=0.4)
        for k in range(4)
    ]
    wheel = rng.uniform(0.15, 0.2)
    wheels = [Part(ellipse(x * long, 0.4, wheel, wheel, corners=20), shade=-0.45) for x in (-0.6, 0.6)]
    return [Part(body), *panes, *wheels]


def _leaf(rng: Rng, _clock: Float64) -> Parts:
    x = np.linspace(-1, 1, 17)
    y = rng.uniform(0.35, 0.6) * (1 - x * x) * (1 + rng.uniform(-0.3, 0.3) * x)
    saw = 1 - 0.12 * (np.arange(17) % 2)
    blade = np.concatenate([np.stack([x, -y * saw], axis=-1), np.stack([x, y * saw], axis=-1)[::-1][1:-1]])
    return [*chain([still(-1.35, 0.05), still(0.9, 0)], [0.05, 0.03], shade=-0.3), Part(polygon(blade))]


def _turtle(rng: Rng, clock: Float64) -> Parts:
    """From above: a shell, four paddling legs, head and tail."""
    wide, parts = rng.uniform(0.55, 0.75), []
    for k, heading in enumerate((0.75, 2.4, -2.4, -0.75)):
        root = still(0.6 * math.cos(heading), wide * 0.75 * math.sin(heading))
        stroke = heading + swing(rng, clock, 0.35, cycles=(1.0, 2.5))
        parts += chain(walk(root, [stroke], [0.42]), [0.2, 0.1], shade=-0.1 - 0.05 * (k % 2))
    nod = swing(rng, clock, 0.2)
    parts += chain(walk(still(0.7, 0), [nod], [0.35]), [0.15, 0.19], shade=-0.05)
    parts += chain([still(-0.75, 0), still(-1.05, 0)], [0.1, 0.03], shade=-0.1)
    return [*parts, Part(ellipse(0, 0, 0.82, wide), shade=0.1), Part(ellipse(0, 0, 0.5, wide * 0.6), shade=0.25)]


def _whale(rng: Rng, clock: Float64) -> Parts:
    fat, wag = rng.uniform(0.32, 0.45), swing(rng, clock, 0.3, cycles=(0.7, 2.0))
    back = walk(still(0.45, 0), [math.pi + 0.1, math.pi + 0.25 + wag, math.pi + 0.5 + wag], [0.55, 0.5, 0.35])
    parts = chain(back, [fat, fat * 0.95, fat * 0.55, 0.12])
    flukes = turned(polygon([(0.1, 0), (-0.38, -0.35), (-0.18, 0), (-0.38, 0.35)]), 0.5 + wag) + back[-1][:, None]
    fin = turned(ellipse(0.15, fat * 0.9, 0.1, 0.25, corners=16), -0.5 + 0.5 * wag, about=(0.15, fat * 0.7))
    return [*parts, Part(flukes, shade=-0.15), Part(fin, shade=-0.25)]


def _penguin(rng: Rng, clock: Float64) -> Parts:
    fat, waddle = rng.uniform(0.4, 0.55), swing(rng, clock, 0.4, cycles=(1.0, 3.0))
    parts = [Part(ellipse(x, 0.95, 0.2, 0.1, corners=16), shade=0.3) for x in (-0.22, 0.24)]
    for side in (-1.0, 1.0):
        parts += chain(
            walk(still(side * fat * 0.8, -0.2), [math.pi / 2 - side * (0.35 + waddle)], [0.55]),
            [0.13, 0.07],
            shade=-0.3,
        )
    beak = polygon([(0.2, -0.9), (0.52, -0.78), (0.2, -0.7)])
    head = ellipse(0, -0.8, 0.29, 0.28, corners=20)
    return [
        *parts,
        Part(ellipse(0, 0.15, fat, 0.82)),
        Part(beak, shade=0.35),
        Part(head, shade=-0.15),
        Part(ellipse(0.03, 0.25, fat * 0.6, 0.6), shade=0.4),
    ]


def _balloon(rng: Rng, _clock: Float64) -> Parts:
    """A hot-air balloon with its basket."""
    theta = np.linspace(math.pi * 0.8, math.pi * 2.2, 24)
    dome = np.stack([0.8 * np.cos(theta), 0.75 * np.sin(theta) - 0.3], axis=-1)
    hang = rng.uniform(0.7, 0.9)
    throat = [(0.2, 0.55), (-0.2, 0.55)]
    ropes = chain([still(-0.17, 0.5), still(-0.14, hang)], [0.035] * 2) + chain(
        [still(0.17, 0.5), still(0.14, hang)], [0.035] * 2
    )
    return [*ropes, Part(polygon(np.concatenate([dome, throat]))), Part(box(-0.2, hang, 0.2, hang + 0.28), shade=-0.35)]


def _tent(rng: Rng, _clock: Float64) -> Parts:
    lean, wide = rng.uniform(-0.2, 0.3), rng.uniform(0.8, 1.1)
    front = polygon([(-wide, 0.7), (lean, -0.7), (0.55, 0.7)])
    side = polygon([(lean, -0.7), (0.55, 0.7), (wide + 0.3, 0.45), (lean + 0.6, -0.72)])
    door = polygon([(-0.35, 0.7), (lean * 0.9, -0.2), (0.12, 0.7)])
    return [Part(side, shade=-0.25), Part(front), Part(door, shade=-0.4)]


def _plant(rng: Rng, clock: Float64) -> Parts:
    """A pot with a round crown of leaves that stirs."""
    pot = polygon([(-0.5, 0.35), (0.5, 0.35), (0.36, 1.0), (-0.36, 1.0)])
    stir = swing(rng, clock, 0.12)
    count, long = rng.integer(7, 10), rng.uniform(0.3, 0.42)
    crown = [
        Part(
            turned(
                ellipse(0, -0.62, 0.24, long, corners=16), stir + 2.0 * (2 * k / (count - 1) - 1), about=(0.0, -0.1)
            ),
            shade=0.15 * (k % 2),
        )
        for k in range(count)
    ]
    heart = Part(ellipse(0, -0.2, 0.5, 0.5))
    return [*chain([still(0, 0.4), still(0, -0.2)], [0.09, 0.09]), heart, *crown, Part(pot, shade=-0.3)]


def _helmet(rng: Rng, _clock: Float64) -> Parts:
    theta = np.linspace(math.pi, 2 * math.pi, 20)
    dome = np.stack([0.8 * np.cos(theta), rng.uniform(0.75, 0.95) * np.sin(theta)], axis=-1)
    brim = polygon([(-0.95, -0.02), (rng.uniform(1.0, 1.35), -0.02), (1.0, 0.16), (-0.85, 0.16)])
    ridge = chain([still(-0.35, -0.78), still(0.0, -0.92), still(0.35, -0.78)], [0.06] * 3, shade=0.3)
    return [Part(polygon(dome)), *ridge, Part(brim, shade=-0.25)]


def _owl(rng: Rng, clock: Float64) -> Parts:
    fat = rng.uniform(0.5, 0.65)
    ears = [Part(polygon([(s * 0.1, -0.75), (s * 0.45, -1.08), (s * 0.5, -0.55)]), shade=-0.2) for s in (-1.0, 1.0)]
    wings = [
        Part(turned(ellipse(s * fat * 0.9, 0.15, 0.17, 0.5), swing(rng, clock, 0.1)), shade=-0.3) for s in (-1.0, 1.0)
    ]
    eyes = [Part(ellipse(s * 0.23, -0.5, 0.15, 0.15, corners=16), shade=0.5) for s in (-1.0, 1.0)]
    feet = [Part(ellipse(s * 0.22, 0.9, 0.16, 0.08, corners=16), shade=0.2) for s in (-1.0, 1.0)]
    return [
        *feet,
        *ears,
        Part(ellipse(0, 0.15, fat, 0.75)),
        Part(ellipse(0, -0.5, 0.52, 0.4), shade=0.1),
        *wings,
        *eyes,
    ]


BODIES: tuple[Family, ...] = (
    Family("apple", _apple),
    Family("bell", _bell, upright=True),
    Family("barrel", _barrel),
    Family("shield", _shield),
    Family("bus", _bus, upright=True),
    Family("leaf", _leaf),
    Family("turtle", _turtle),
    Family("whale", _whale, upright=True),
    Family("penguin", _penguin, upright=True),
    Family("balloon", _balloon, upright=True),
    Family("tent", _tent, upright=True),
    Family("plant", _plant, upright=True),
    Family("helmet", _helmet, upright=True),
    Family("owl", _owl, upright=True),
)
