"""Similarity placements of an object in frames: points to and fro, and pictures looked up at points.

A placement is (row, column, logarithm of the scale, turn in radians): where the object's origin is in the frame, how
much larger than in its own coordinates it is, and how far it has turned from columns towards rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from amodal_diffusion.types import FloatArray

Placement = npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32] | npt.NDArray[np.uint8] | npt.NDArray[np.bool_]


def to_frame(placement: Placement, rows: Points, columns: Points) -> tuple[Points, Points]:
    """Points of the object, from its origin -> rows and columns in the frame.

    Args:
        placement: float64 ``[4]``.
        rows: any shape that broadcasts with `columns`.
        columns: likewise.
    """
    cos, sin = np.exp(placement[2]) * np.cos(placement[3]), np.exp(placement[2]) * np.sin(placement[3])
    return placement[0] + cos * rows + sin * columns, placement[1] + cos * columns - sin * rows


def to_object(placement: Placement, rows: Points, columns: Points) -> tuple[Points, Points]:
    """Rows and columns in the frame -> points of the object, from its origin; arguments as for `to_frame`."""
    cos, sin = np.cos(placement[3]) / np.exp(placement[2]), np.sin(placement[3]) / np.exp(placement[2])
    down, right = rows - placement[0], columns - placement[1]
    return cos * down - sin * right, sin * down + cos * right


def look_up(maps: FloatArray, rows: Points, columns: Points) -> FloatArray:
    """Values of the pixels nearest to points.

    Args:
        maps: float32 ``[C, H, W]``.
        rows: of the points, any shape that broadcasts with `columns`.
        columns: of the points.

    Returns:
        float32 ``[C, ...]`` of the points' shape; 0 outside the maps.
    """
    channels, height, width = maps.shape
    row, column = np.floor(rows + 0.5).astype(np.intp), np.floor(columns + 0.5).astype(np.intp)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    flat = np.concatenate([maps.reshape(channels, -1), np.zeros((channels, 1), maps.dtype)], axis=1)
    found: FloatArray = flat.take(np.where(inside, row * width + column, height * width), axis=1)
    return found


def interpolate(colors: Pixels, weight: Pixels, rows: Points, columns: Points) -> tuple[FloatArray, FloatArray]:
    """Colors between pixels: the mean of the four around a point, each by its nearness and its weight.

    Args:
        colors: any number type, ``[H, W, 3]``.
        weight: what a pixel counts, at least 0, any number type or bool, ``[H, W]``; pixels outside count nothing.
        rows: of the points, ``[n]``.
        columns: of the points, ``[n]``.

    Returns:
        float32 ``[n, 3]``, 0 where nothing counts; and what counts there, float32 ``[n]``, at most the largest weight.
    """
    height, width = weight.shape
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    total, found = np.zeros(len(rows), np.float32), np.zeros((len(rows), 3), np.float32)
    for below, share_of_row in ((0, 1 - down), (1, down)):
        row = top + below
        for beside, share_of_column in ((0, 1 - right), (1, right)):
            column = left + beside
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            at = np.where(inside, row, 0).astype(np.intp), np.where(inside, column, 0).astype(np.intp)
            counts = np.where(inside, share_of_row * share_of_column * weight[at], np.float32(0))
            total += counts
            found += counts[:, None] * colors[at]
    return np.asarray(found / np.maximum(total, np.float32(1e-6))[:, None], dtype=np.float32), total


def in_cells(placement: Placement, block: int) -> Placement:
    """A placement in pixels, or many ``[..., 4]``, as one in cells of ``block`` pixels a side."""
    cells = np.array(placement, dtype=np.float64)
    cells[..., :2] = (cells[..., :2] - (block - 1) / 2) / block  # a cell's center is not that of its first pixel
    return cells


def in_pixels(placement: Placement, block: int) -> Placement:
    """The inverse of :func:`in_cells`."""
    pixels = np.array(placement, dtype=np.float64)
    pixels[..., :2] = pixels[..., :2] * block + (block - 1) / 2
    return pixels


def lattice(side: int, step: float = 1.0) -> tuple[Points, Points]:
    """Rows ``[side, 1]`` and columns ``[1, side]`` of a square lattice about the origin, ``step`` apart."""
    line = np.asarray((np.arange(side) - (side - 1) / 2) * step, dtype=np.float64)
    return line[:, None], line[None, :]
