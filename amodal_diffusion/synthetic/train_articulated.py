"""Articulated shape families of the training split: figures, crawlers, worms, branches."""

from __future__ import annotations

import math

import numpy as np

from amodal_diffusion.synthetic.outlines import Family, Part, Parts, chain, ellipse, moved, still, swing, turned, walk
from amodal_diffusion.synthetic.rng import Float64, Rng

DOWN = math.pi / 2


def _walker(rng: Rng, clock: Float64) -> Parts:
    """A person-like figure: head, trunk, two arms and two legs of two segments each, walking."""
    stride, pace, phase = rng.uniform(0.2, 0.7), rng.uniform(0.8, 3.5), rng.angle()
    build = rng.uniform(0.7, 1.5)
    hip, neck = still(0, 0.0), still(rng.uniform(-0.06, 0.06), -0.75)
    parts = chain([hip, neck], [0.16 * build, 0.2 * build])
    for side in (0.0, math.pi):
        step = stride * np.sin(2 * math.pi * pace * clock + phase + side)
        bend = 0.5 * stride * (1 + np.sin(2 * math.pi * pace * clock + phase + side - 1.2))
        leg = walk(hip, [DOWN + step, DOWN + step + bend], [0.5, 0.52])
        parts += chain(leg, [0.13 * build, 0.1 * build, 0.07 * build], shade=-0.2 if side else -0.1)
        raised = rng.uniform(0.0, 2.2) if rng.chance(0.25) else 0.0
        arm = walk(neck + np.asarray([0.0, 0.08]), [DOWN - step - raised, DOWN - step - raised - 0.4], [0.36, 0.34])
        parts += chain(arm, [0.08 * build, 0.07 * build, 0.05 * build], shade=0.15 if side else 0.05)
    head = rng.uniform(0.15, 0.24)
    return [*parts, Part(moved(ellipse(0, 0, head * 0.85, head, corners=18), neck[0, 0], -0.9 - head), shade=0.3)]


def _crawler(rng: Rng, clock: Float64) -> Parts:
    """A round body with three to eight jointed limbs all around."""
    count = rng.integer(3, 8)
    rx, ry = rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.5)
    first = rng.angle()
    parts = []
    for k in range(count):
        heading = first + 2 * math.pi * k / count + rng.uniform(-0.2, 0.2)
        root = still(0.8 * rx * math.cos(heading), 0.8 * ry * math.sin(heading))
        knee = rng.uniform(-0.7, 0.7)
        nodes = walk(root, [heading + swing(rng, clock, 0.3), heading + knee + swing(rng, clock, 0.5)], [0.45, 0.45])
        parts += chain(nodes, [rng.uniform(0.08, 0.16), 0.08, 0.05], shade=-0.15)
    return [*parts, Part(ellipse(0, 0, rx, ry), shade=0.1)]


def _worm(rng: Rng, clock: Float64) -> Parts:
    """A wriggling body that tapers to both ends or to one."""
    count = 12
    wave, speed, phase = rng.uniform(0.3, 1.1), rng.uniform(-9, 9), rng.angle()
    turns, curl = rng.uniform(2.0, 6.0), rng.uniform(-1.2, 1.2)
    along = np.linspace(0, 1, count)
    headings = [curl * a + wave * np.sin(turns * a + phase + speed * clock) for a in along[1:]]
    nodes = walk(still(0, 0), headings, [1.0 / count] * (count - 1))
    thick = rng.uniform(0.05, 0.13)
    radii = thick * (1 - rng.uniform(0.3, 0.9) * np.abs(along - rng.uniform(0.0, 0.5)) ** 1.5)
    return chain(nodes, list(radii))


def _branch(rng: Rng, clock: Float64) -> Parts:
    """A trunk that forks two or three times, swaying."""
    sway = swing(rng, clock, rng.uniform(0.0, 0.15))
    thick = rng.uniform(0.06, 0.14)
    parts: Parts = []
    tips = [(still(0, 0), -DOWN + sway, 0.8, thick)]
    for level in range(rng.integer(2, 3)):
        grown = []
        for base, heading, length, radius in tips:
            nodes = walk(base, [heading], [length])
            parts += chain(nodes, [radius, radius * 0.7], shade=0.1 * level - 0.1)
            for k in range(2 if level else rng.integer(2, 3)):
                fork = rng.uniform(0.25, 0.9) * (1 if k % 2 else -1) if k < 2 else rng.uniform(-0.2, 0.2)
                grown.append((nodes[-1], heading + fork, length * rng.uniform(0.5, 0.85), radius * 0.65))
        tips = grown
    for base, heading, length, radius in tips:
        parts += chain(walk(base, [heading], [length]), [radius, radius * 0.6], shade=0.2)
    return parts


def _linkage(rng: Rng, clock: Float64) -> Parts:
    """A crane-like arm of three to five rigid links with rotating joints."""
    links = rng.integer(3, 5)
    heading: Float64 = np.full(1, rng.angle())
    headings, lengths = [], []
    for _ in range(links):
        heading = heading + rng.uniform(-1.4, 1.4) + swing(rng, clock, rng.uniform(0.0, 0.6))
        headings.append(heading)
        lengths.append(rng.uniform(0.4, 0.9))
    thick = rng.uniform(0.09, 0.2)
    return chain(walk(still(0, 0), headings, lengths), [thick] * (links + 1), shade=rng.uniform(-0.1, 0.1))


def _propeller(rng: Rng, clock: Float64) -> Parts:
    """Blades that rotate about a hub."""
    blades, spin = rng.integer(2, 5), rng.uniform(-6, 6) * clock
    wide = rng.uniform(0.1, 0.25)
    blade = ellipse(0.55, 0, 0.5, wide, corners=18)
    parts = [Part(turned(blade, spin + 2 * math.pi * k / blades), shade=0.1 * (k % 2)) for k in range(blades)]
    return [*parts, Part(ellipse(0, 0, 0.22, 0.22, corners=18), shade=-0.3)]


def _cluster(rng: Rng, clock: Float64) -> Parts:
    """Overlapping balls that drift a little: grapes, clouds, foam."""
    parts = []
    for _ in range(rng.integer(4, 9)):
        x, y, radius = rng.uniform(-0.6, 0.6), rng.uniform(-0.5, 0.5), rng.uniform(0.2, 0.45)
        drift = np.stack([swing(rng, clock, 0.1), swing(rng, clock, 0.1)], axis=-1)[:, None]
        parts.append(Part(ellipse(x, y, radius, radius, corners=18) + drift, shade=rng.uniform(-0.25, 0.25)))
    return parts


FIGURES: tuple[Family, ...] = (
    Family("walker", _walker, upright=True),
    Family("crawler", _crawler),
    Family("worm", _worm),
    Family("branch", _branch, upright=True),
    Family("linkage", _linkage),
    Family("propeller", _propeller),
    Family("cluster", _cluster),
)
