"""Scene rendering: exact masks, depth and RGB for all frames of a clip at once.

Masks use plain numpy arithmetic, so they do not depend on the version of a drawing library.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from amodal_diffusion.synthetic import textures
from amodal_diffusion.synthetic.layout import Actor
from amodal_diffusion.synthetic.motion import place, unplace
from amodal_diffusion.synthetic.outlines import Part
from amodal_diffusion.synthetic.rng import Float64, Rng
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array


def fill(outlines: Sequence[Float64], *, frames: int, height: int, width: int) -> BoolArray:
    """Rasterize the union of simple polygons by a scanline fill.

    A pixel belongs to a polygon if its center does (non-zero winding number).

    Args:
        outlines: corners in pixels, float64 ``[F, N, 2]`` each, either orientation, may leave the frame.
        frames: number of frames F.
        height: H in pixels.
        width: W in pixels.

    Returns:
        bool ``[F, H, W]``.
    """
    if not outlines:
        return np.zeros((frames, height, width), dtype=np.bool_)
    edges = np.concatenate([_edges(points) for points in outlines])  # [E, 6]
    frame, x0, y0, x1, y1, sign = edges.T
    # An edge crosses a pixel row if y0 <= row + 0.5 < y1. All edges point down, so y0 < y1.
    first = np.clip(np.ceil(y0 - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(y1 - 0.5), 0, height).astype(np.int64)
    count = last - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (x1 - x0) / (y1 - y0)
    x = x0[edge] + (row + 0.5 - y0[edge]) * slope[edge]
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    cell = (frame[edge].astype(np.int64) * height + row) * (width + 1) + column
    steps = np.bincount(cell, weights=sign[edge], minlength=frames * height * (width + 1))
    winding = np.cumsum(steps.astype(np.int16).reshape(frames, height, width + 1), axis=-1, dtype=np.int16)
    return winding[:, :, :width] != 0


def fill_shape(parts: Sequence[Part], *, frames: int, height: int, width: int) -> BoolArray:
    """Rasterize a shape in pixel coordinates: its solid parts minus its holes, bool ``[F, H, W]``."""
    mask = fill([p.points for p in parts if not p.hole], frames=frames, height=height, width=width)
    holes = [p.points for p in parts if p.hole]
    if holes:
        mask &= ~fill(holes, frames=frames, height=height, width=width)
    return mask


def _edges(points: Float64) -> Float64:
    """Non-horizontal edges of polygons ``[F, N, 2]``, pointing down: ``[E, 6]`` = frame, x0, y0, x1, y1, sign.

    The sign makes every polygon wind the same way, so that overlapping polygons never cancel.
    """
    after = np.concatenate([points[:, 1:], points[:, :1]], axis=1)
    area = (points[..., 0] * after[..., 1] - after[..., 0] * points[..., 1]).sum(axis=1)  # [F]
    down = after[..., 1] > points[..., 1]
    sign = np.where(down, 1.0, -1.0) * np.where(area >= 0, 1.0, -1.0)[:, None]
    start = np.where(down[..., None], points, after)
    end = np.where(down[..., None], after, points)
    frame = np.broadcast_to(np.arange(len(points), dtype=np.float64)[:, None], down.shape)
    edges = np.stack([frame, start[..., 0], start[..., 1], end[..., 0], end[..., 1], sign], axis=-1)
    keep = start[..., 1] != end[..., 1]
    return np.asarray(edges[keep])


WHITE = 255
BRIGHTEST = 0.93
"""Highest color value of an object, so that it differs from the white background of the amodal RGB."""


def whole_mask(actor: Actor, *, height: int, width: int) -> BoolArray:
    """Amodal mask of an object, clipped to the frame, bool ``[F, H, W]``."""
    frames = len(actor.pose.size)
    return fill_shape(place(actor.parts, actor.pose, height=height), frames=frames, height=height, width=width)


def visible_masks(wholes: Sequence[BoolArray]) -> list[BoolArray]:
    """Modal mask of each object from the amodal masks, given far to near."""
    visible, covered = [], np.zeros_like(wholes[0])
    for whole in reversed(wholes):
        visible.append(whole & ~covered)
        covered |= whole
    return visible[::-1]


def paint_depth(rng: Rng, actors: Sequence[Actor], visible: Sequence[BoolArray]) -> FloatArray:
    """Relative depth in about [0, 1], nearer is larger, float32 ``[F, H, W]``.

    Each object has its own depth band, within which its depth is tilted and curved. The bands keep the order of the
    objects, given far to near. The background is a floor-like gradient; its near end may be nearer than a far object.
    """
    frames, height, width = visible[0].shape
    far, near = rng.uniform(0.0, 0.2), rng.uniform(0.25, 0.6)
    lean = rng.uniform(-0.15, 0.15)
    rows, columns = np.linspace(0, 1, height)[:, None], np.linspace(-0.5, 0.5, width)[None]
    floor = far + (near - far) * rows ** rng.uniform(0.7, 2.0) + lean * columns
    depth = np.repeat(floor[None].astype(np.float32), frames, axis=0)
    gaps = rng.array(len(actors) + 1, 0.2, 1.0)
    start = rng.uniform(0.25, 0.4)
    base = start + (0.97 - start) * np.cumsum(gaps)[:-1] / gaps.sum()
    for actor, mask, middle, gap in zip(actors, visible, base, np.minimum(gaps[:-1], gaps[1:]), strict=True):
        band = 0.4 * (0.97 - start) * gap / gaps.sum()
        slope, bulge = rng.array(2, -1.2, 1.2), rng.uniform(0.0, 0.6)
        frame, row, column = np.nonzero(mask)
        x = ((column + 0.5) / height - actor.pose.center[frame, 0]) / actor.pose.size[frame]
        y = ((row + 0.5) / height - actor.pose.center[frame, 1]) / actor.pose.size[frame]
        relief = slope[0] * x + slope[1] * y + bulge * (1 - 8 * (x * x + y * y))
        depth[frame, row, column] = middle + band * np.clip(relief, -1, 1)
    return depth


def paint_background(rng: Rng, families: tuple[textures.PatternFamily, ...], *, height: int, width: int) -> UInt8Array:
    """Static background of two soft textures above and below a horizon, uint8 ``[H, W, 3]``."""
    rows, columns = np.mgrid[0:height, 0:width]
    y, x = (rows + 0.5) / height, (columns + 0.5) / height
    wall = textures.draw_texture(rng, families, contrast=0.35).color(x - 1, y - 0.5)
    floor = textures.draw_texture(rng, families, contrast=0.35).color(x - 1, 2 * y)
    below = y > rng.uniform(0.3, 0.8) + rng.uniform(-0.08, 0.08) * (x - 1)
    light = 1 + rng.uniform(-0.3, 0.3) * (y - 0.5)
    return _to_bytes(np.where(below[..., None], floor, wall) * light[..., None])


def paint_whole(rng: Rng, actor: Actor, whole: BoolArray, families: tuple[textures.PatternFamily, ...]) -> UInt8Array:
    """Amodal RGB: the complete object on white, uint8 ``[F, H, W, 3]``."""
    frames, height, width = whole.shape
    texture = textures.draw_texture(rng, families)
    light, direction = rng.uniform(0.0, 0.5), rng.angle()
    frame, row, column = np.nonzero(whole)
    u, v = unplace((column + 0.5) / height, (row + 0.5) / height, actor.pose, frame)
    shade = _shades(actor, frames=frames, height=height, width=width)[frame, row, column]
    bright = 1 + 0.8 * shade + light * (np.cos(direction) * u + np.sin(direction) * v)
    painted = np.full((frames, height, width, 3), WHITE, dtype=np.uint8)
    painted[frame, row, column] = _to_bytes(np.minimum(texture.color(u, v) * bright[:, None], BRIGHTEST))
    return painted


def _shades(actor: Actor, *, frames: int, height: int, width: int) -> FloatArray:
    """Shade of the last solid part at each pixel, float32 ``[F, H, W]``."""
    shades = np.zeros((frames, height, width), dtype=np.float32)
    solid = [part for part in place(actor.parts, actor.pose, height=height) if not part.hole]
    for shade, run in groupby(solid, key=lambda part: part.shade):
        shades[fill([part.points for part in run], frames=frames, height=height, width=width)] = shade
    return shades


def _to_bytes(color: Float64) -> UInt8Array:
    return np.rint(np.clip(color, 0.0, 1.0) * 255).astype(np.uint8)
