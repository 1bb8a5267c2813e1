"""Polygons to pixels: an exact scanline fill of all frames of a clip at once.

Written on plain numpy arithmetic, so that masks do not depend on the version of a drawing library.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amodal_diffusion.data.scenes.dice import Float64
from amodal_diffusion.data.scenes.outlines import Part
from amodal_diffusion.types import BoolArray


def fill(outlines: Sequence[Float64], *, frames: int, height: int, width: int) -> BoolArray:
    """Fill the union of simple polygons.

    A pixel belongs to a polygon if its centre does (non-zero winding number).

    Args:
        outlines: corners in pixels, float64 ``[F, N, 2]`` each, any orientation, may leave the frame.
        frames: number of frames F of the result.
        height: rows.
        width: columns.

    Returns:
        bool ``[F, H, W]``.
    """
    if not outlines:
        return np.zeros((frames, height, width), dtype=np.bool_)
    edges = np.concatenate([_edges(points) for points in outlines])  # [E, 6]
    frame, x0, y0, x1, y1, sign = edges.T
    # A pixel row is crossed where y0 <= row + 0.5 < y1 (edges point down); y0 < y1 holds for every edge here.
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
    """Fill a shape whose parts are in pixels: the union of its solid parts without its holes, bool ``[F, H, W]``."""
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
