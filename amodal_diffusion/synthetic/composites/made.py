"""Cut-outs drawn by code: occluders that cross an object, covers without holes, and things with true holes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from amodal_diffusion.synthetic import textures, train_occluders
from amodal_diffusion.synthetic.composites.cutouts import (
    CONTENT,
    SIDE,
    CompositeSplit,
    Cutout,
    CutoutSet,
    pixel_digest,
    prepare_pictures,
)
from amodal_diffusion.synthetic.outlines import (
    Family,
    Part,
    Parts,
    box,
    chain,
    ellipse,
    fit,
    polygon,
    radial,
    still,
    swing,
    turned,
    walk,
)
from amodal_diffusion.synthetic.render import fill_shape
from amodal_diffusion.synthetic.rng import Float64, Rng
from amodal_diffusion.types import UInt8Array

FRAMES = 8
"""Pictures of a family that moves."""
_FINE = 4  # drawn at this many times the size, then averaged to smooth edges
_STREAM = {"train": 0, "validation": 1, "test-v2": 2}
_TEXTURES = {"train": textures.TRAIN, "validation": textures.VALIDATION, "test-v2": textures.TEST}


def _limb(rng: Rng, clock: Float64) -> Parts:
    """An arm, a leg or a bough: two tapered segments, a joint that bends over time, often a hand or a twig."""
    thick = math.exp(rng.uniform(math.log(0.05), math.log(0.2)))
    thin = thick * rng.uniform(0.4, 0.9)
    bend = rng.uniform(-0.9, 0.9) + swing(rng, clock, rng.uniform(0.0, 0.5))
    nodes = walk(still(0, 0), [0.0, bend], [1.0, rng.uniform(0.7, 1.0)])
    parts = chain(nodes, [thick, (thick + thin) / 2, thin])
    end = nodes[-1]
    if rng.chance(0.5):
        for spread in (-0.5, 0.0, 0.5):
            finger = walk(end, [bend + spread], [thin * rng.uniform(1.5, 2.5)])
            parts += chain(finger, [thin * 0.8, thin * 0.35], shade=0.1)
    elif rng.chance(0.5):
        twig = walk(nodes[1], [rng.uniform(-1.2, 1.2)], [rng.uniform(0.4, 0.8)])
        parts += chain(twig, [thick * 0.7, thin * 0.5], shade=-0.1)
    return parts


def _pole(rng: Rng, _clock: Float64) -> Parts:
    """An upright post or trunk, sometimes with a foot or an arm."""
    thick = math.exp(rng.uniform(math.log(0.025), math.log(0.14)))
    parts = chain([still(0, -1), still(rng.uniform(-0.1, 0.1), 1)], [thick * rng.uniform(0.6, 1.0), thick])
    if rng.chance(0.3):
        parts.append(Part(box(-2.5 * thick, 0.85, 2.5 * thick, 1.0), shade=-0.1))
    if rng.chance(0.3):
        reach = rng.uniform(0.2, 0.5) * rng.sign()
        parts += chain([still(0, -0.8), still(reach, -0.9)], [thick * 0.6, thick * 0.4], shade=0.1)
    return parts


def _foliage(rng: Rng, clock: Float64) -> Parts:
    """Leaves around stems, with gaps between them, stirring."""
    parts: Parts = []
    for _ in range(rng.integer(3, 5)):
        heading = -math.pi / 2 + rng.uniform(-0.9, 0.9) + swing(rng, clock, 0.06)
        length = rng.uniform(0.7, 1.2)
        nodes = walk(still(rng.uniform(-0.3, 0.3), 0.4), [heading, heading + rng.uniform(-0.4, 0.4)], [length / 2] * 2)
        parts += chain(nodes, [0.03, 0.022, 0.012], shade=-0.25)
        for _ in range(rng.integer(7, 12)):
            at = rng.uniform(0.1, 1.0)
            base = nodes[0] + (nodes[2] - nodes[0]) * at
            side = heading + rng.sign() * rng.uniform(0.4, 1.2)
            tip = walk(base, [side], [rng.uniform(0.15, 0.3)])[1]
            parts += chain([base, tip], [rng.uniform(0.05, 0.09), 0.012], shade=rng.uniform(-0.2, 0.25))
    return parts


def _cover(rng: Rng, _clock: Float64) -> Parts:
    """A solid that can hide an object whole: a plate, a boulder or a crown."""
    kind = rng.integer(0, 2)
    if kind == 0:
        wide = rng.uniform(0.7, 1.0)
        return [Part(box(-wide, -1, wide, 1)), Part(box(-wide, -1, wide, rng.uniform(-0.9, -0.6)), shade=0.15)]
    angles = np.arange(64) * (2 * math.pi / 64)
    radius = np.ones(64)
    for wave in range(2, 7 if kind == 1 else 12):
        radius += rng.uniform(0.0, 0.35 / wave) * np.sin(wave * angles + rng.angle())
    return [Part(radial(radius))]


def _cage(rng: Rng, _clock: Float64) -> Parts:
    """A cage or basket: ribs, rings and a base, with nothing between them."""
    ribs, thick, tall = rng.integer(4, 7), rng.uniform(0.025, 0.05), rng.uniform(0.8, 1.3)
    parts: Parts = []
    for k in range(ribs):
        x = -0.6 + 1.2 * k / (ribs - 1)
        parts += chain([still(0.75 * x, -tall), still(x, -0.4 * tall), still(x, tall)], [thick] * 3)
    for y in (-0.4 * tall, 0.3 * tall):
        parts.append(Part(box(-0.62, y - thick, 0.62, y + thick), shade=-0.1))
    parts.append(Part(box(-0.66, 0.8 * tall, 0.66, 1.05 * tall), shade=-0.2))
    return [*parts, Part(box(-0.5, -1.1 * tall, 0.5, -0.95 * tall), shade=-0.2)]


def _handled(rng: Rng, _clock: Float64) -> Parts:
    """A mug, jug or bag: a body, and a handle at its side or above that one can see through."""
    wide, tall, thick = rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.8), rng.uniform(0.06, 0.1)
    top = rng.uniform(0.8, 1.15) * wide
    body = Part(polygon([(-top, -tall), (top, -tall), (wide, tall), (-wide, tall)]), shade=0.02)
    rim = Part(box(-top, -tall, top, -tall + 0.08), shade=0.2)
    center = (wide + 0.12, 0.0) if rng.chance(0.5) else (0.0, -tall)
    return [*_loop(center, rng.uniform(0.25, 0.4), rng.uniform(0.3, 0.5), thick), body, rim]


def _loop(center: tuple[float, float], rx: float, ry: float, thick: float) -> Parts:
    """A ring made of capsules, so that it needs no hole."""
    turns = np.linspace(0, 2 * math.pi, 15)
    nodes = [still(center[0] + rx * math.cos(t), center[1] + ry * math.sin(t)) for t in turns]
    return chain(nodes, [thick / 2] * len(nodes), shade=-0.1)


def _frame(rng: Rng, _clock: Float64) -> Parts:
    """A chair, a ladder, a window or a ring."""
    kind, thick = rng.integer(0, 3), rng.uniform(0.04, 0.09)
    if kind == 0:  # chair: back, seat, legs that stand apart
        parts = chain([still(-0.4, -1), still(-0.4, 1)], [thick] * 2) + chain(
            [still(0.4, 0), still(0.4, 1)], [thick] * 2
        )
        parts += chain([still(-0.4, -0.9), still(0.1, -0.95)], [thick] * 2)
        return [*parts, Part(box(-0.45, -0.1, 0.5, 0.1), shade=0.15)]
    if kind == 1:
        parts = chain([still(-0.35, -1), still(-0.4, 1)], [thick] * 2) + chain(
            [still(0.35, -1), still(0.4, 1)], [thick] * 2
        )
        for y in np.linspace(-0.8, 0.8, rng.integer(4, 6)):
            parts += chain([still(-0.37, y), still(0.37, y)], [thick * 0.8] * 2, shade=0.1)
        return parts
    if kind == 2:
        wide, tall, rim = rng.uniform(0.5, 0.9), rng.uniform(0.6, 1.0), 2 * thick
        return [
            Part(box(-wide, -tall, wide, tall)),
            Part(box(rim - wide, rim - tall, wide - rim, tall - rim), hole=True),
        ]
    radius, hole = rng.uniform(0.7, 1.0), rng.uniform(0.35, 0.7)
    return [Part(ellipse(0, 0, radius, 1.0)), Part(ellipse(0, 0, radius * hole, hole), hole=True)]


def _tilted(family: Family) -> Family:
    """A family with a lean of its own, because a layout keeps what stands upright nearly upright."""

    def build(rng: Rng, clock: Float64) -> Parts:
        lean = rng.uniform(-0.1, 0.1)
        parts = family.build(rng, clock)
        return [Part(turned(part.points, lean), hole=part.hole, shade=part.shade) for part in parts]

    return Family(family.name, build)


FAMILIES: dict[str, tuple[tuple[Family, ...], bool]] = {
    "limb": ((Family("limb", _limb),), True),
    "pole": ((Family("pole", _pole),), False),
    "foliage": ((Family("foliage", _foliage),), True),
    "fence": (tuple(_tilted(f) for f in train_occluders.OCCLUDERS if f.name in ("bars", "fence", "net")), False),
    "cover": ((Family("cover", _cover),), False),
    "holed": ((Family("cage", _cage), Family("handled", _handled), Family("frame", _frame)), False),
}
"""Families by role, and whether they move."""


@cache
def made_cutouts(split: CompositeSplit, each: int) -> CutoutSet:
    """The made-up cut-outs of a split; no two splits share an instance or a texture.

    Args:
        split: decides the random stream and the textures.
        each: how many of each role.
    """
    parts = []
    for number, (role, (families, moves)) in enumerate(FAMILIES.items()):
        for index in range(each):
            family = families[index % len(families)]
            rng = Rng(18, _STREAM[split], number, index)
            pictures = draw(family, rng, split, frames=FRAMES if moves else 1)
            digest = pixel_digest(pictures)
            name = f"{split}-{family.name}-{index}"
            parts.append((role, Cutout(name, family.name, "made", "Apache-2.0", digest, ()), pictures))
    return CutoutSet.of(parts)


def draw(family: Family, rng: Rng, split: CompositeSplit, *, frames: int) -> list[UInt8Array]:
    """Draw one instance of a family, uint8 ``[128, 128, 4]`` for each frame."""
    clock = np.arange(frames) / frames
    size = SIDE * _FINE
    parts = [
        Part(size / 2 + part.points * CONTENT * _FINE, part.hole, part.shade) for part in fit(family.build(rng, clock))
    ]
    solid = fill_shape(parts, frames=frames, height=size, width=size)
    alpha = solid.reshape(frames, SIDE, _FINE, SIDE, _FINE).sum(axis=(2, 4), dtype=np.int64) * 255 // _FINE**2
    shade = np.zeros((frames, SIDE, SIDE))
    for part in (part for part in parts if part.shade):
        small = Part(part.points / _FINE)
        shade[fill_shape([small], frames=frames, height=SIDE, width=SIDE)] = part.shade
    texture = textures.draw_texture(rng, _TEXTURES[split])
    light, direction = rng.uniform(0.0, 0.5), rng.angle()
    v, u = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE - 0.5
    bright = 1 + 0.8 * shade + light * (math.cos(direction) * u + math.sin(direction) * v)
    rgb = np.rint(np.clip(texture.color(u, v)[None] * bright[..., None], 0.0, 0.95) * 255)
    return prepare_pictures(list(np.concatenate([rgb, alpha[..., None]], axis=-1).astype(np.uint8)))
