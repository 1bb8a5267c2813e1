"""Building blocks of shapes: closed outlines that may change over the frames of a clip.

Shape coordinates: x to the right, y **down**, any scale (`fit` normalizes it). An outline is float64 ``[F, N, 2]``,
or ``[1, N, 2]`` if it is static.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from amodal_diffusion.synthetic.rng import Float64, Rng


@dataclass(frozen=True)
class Part:
    """One simple closed polygon of a shape.

    Attributes:
        points: corners, float64 ``[F, N, 2]``, either orientation.
        hole: whether the polygon is cut out of the shape instead of added to it.
        shade: brightness relative to the rest of the object; 0 is neutral.
    """

    points: Float64
    hole: bool = False
    shade: float = 0.0


Parts = list[Part]
Builder = Callable[[Rng, Float64], Parts]


@dataclass(frozen=True)
class Family:
    """A kind of shape; each draw gives a different instance.

    Attributes:
        name: unique over all splits.
        build: `(rng, clock [F] in [0, 1]) -> parts`, in any scale.
        upright: whether the shape stands, so that it may only lean and not rotate.
        span: whether the size is relative to the frame (bars, fences) instead of the target.
    """

    name: str
    build: Builder
    upright: bool = False
    span: bool = False


def fit(parts: Iterable[Part]) -> Parts:
    """Center a shape on its bounding box over all frames and scale the longer side of the box to 1."""
    parts = list(parts)
    low = np.min([part.points.min(axis=(0, 1)) for part in parts], axis=0)
    high = np.max([part.points.max(axis=(0, 1)) for part in parts], axis=0)
    scale = 1.0 / max(float((high - low).max()), 1e-9)
    return [replace(part, points=(part.points - (low + high) / 2) * scale) for part in parts]


def polygon(corners: Sequence[tuple[float, float]] | Float64) -> Float64:
    """Static outline ``[1, N, 2]`` from its corners."""
    return np.asarray(corners, dtype=np.float64)[None]


def box(x0: float, y0: float, x1: float, y1: float) -> Float64:
    """Axis-aligned rectangle ``[1, 4, 2]``."""
    return polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def ellipse(x: float, y: float, rx: float, ry: float, *, corners: int = 28) -> Float64:
    """Axis-aligned ellipse ``[1, corners, 2]``."""
    theta = np.arange(corners) * (2 * math.pi / corners)
    return np.stack([x + rx * np.cos(theta), y + ry * np.sin(theta)], axis=-1)[None]


def radial(radius: Float64, *, start: float = 0.0) -> Float64:
    """Closed curve ``[F, N, 2]`` around the origin from radii ``[F, N]`` or ``[N]`` at N equally spaced angles."""
    radius = np.atleast_2d(radius)
    theta = start + np.arange(radius.shape[1]) * (2 * math.pi / radius.shape[1])
    return np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=-1)


def capsule(a: Float64, b: Float64, ra: float, rb: float) -> Float64:
    """Rounded stick ``[F, 10, 2]`` between points ``[F, 2]``, with radii ``ra`` and ``rb`` at its ends."""
    a, b = np.broadcast_arrays(np.atleast_2d(a), np.atleast_2d(b))
    axis = b - a
    heading = np.arctan2(axis[:, 1], axis[:, 0])[:, None]
    bend = np.linspace(-math.pi / 2, math.pi / 2, 5)
    ends = []
    for center, radius, turn in ((b, rb, 0.0), (a, ra, math.pi)):
        theta = heading + bend + turn
        ends.append(center[:, None] + radius * np.stack([np.cos(theta), np.sin(theta)], axis=-1))
    return np.concatenate(ends, axis=1)


def chain(nodes: Sequence[Float64], radii: Sequence[float], *, shade: float = 0.0) -> Parts:
    """Capsules between consecutive nodes (each ``[F, 2]``), with one radius per node."""
    return [
        Part(capsule(a, b, ra, rb), shade=shade)
        for a, b, ra, rb in zip(nodes[:-1], nodes[1:], radii[:-1], radii[1:], strict=True)
    ]


def walk(start: Float64, headings: Sequence[Float64 | float], lengths: Sequence[float]) -> list[Float64]:
    """Nodes ``[F, 2]`` of a path from ``start`` with the given headings (radians, ``[F]`` or scalar) and lengths."""
    nodes = [np.atleast_2d(start)]
    for heading, length in zip(headings, lengths, strict=True):
        turn = np.atleast_1d(np.asarray(heading, dtype=np.float64))
        nodes.append(nodes[-1] + length * np.stack([np.cos(turn), np.sin(turn)], axis=-1))
    return nodes


def turned(points: Float64, angle: float | Float64, *, about: tuple[float, float] | Float64 = (0.0, 0.0)) -> Float64:
    """Points ``[F, N, 2]`` rotated by an angle (radians, scalar or ``[F]``) about a point (``[2]`` or ``[F, 2]``)."""
    turn = np.atleast_1d(np.asarray(angle, dtype=np.float64))[:, None]
    pivot = np.atleast_2d(np.asarray(about, dtype=np.float64))[:, None]
    x, y = np.moveaxis(points - pivot, -1, 0)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1) + pivot


def moved(points: Float64, x: float, y: float, *, stretch: tuple[float, float] = (1.0, 1.0)) -> Float64:
    """Points scaled along the axes and then shifted."""
    return points * np.asarray(stretch) + np.asarray([x, y])


def still(x: float, y: float) -> Float64:
    """Static point ``[1, 2]``."""
    return np.asarray([[x, y]], dtype=np.float64)


def swing(rng: Rng, clock: Float64, amplitude: float, *, cycles: tuple[float, float] = (0.7, 3.0)) -> Float64:
    """Sine over the clip, ``[F]``, with a random phase and a random frequency in cycles per clip."""
    return amplitude * np.sin(2 * math.pi * rng.uniform(*cycles) * clock + rng.angle())
