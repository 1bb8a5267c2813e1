"""Placements: similarity transforms between object and frame coordinates, and image lookup at the resulting points.

A placement is (row, column, logarithm of the scale, rotation in radians): the position of the object's origin in the
frame, its scale relative to object coordinates, and its rotation from the column axis towards the row axis.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from amodal_diffusion.types import FloatArray

Placement = npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32] | npt.NDArray[np.uint8] | npt.NDArray[np.bool_]


def to_frame(placement: Placement, rows: Points, columns: Points) -> tuple[Points, Points]:
    """Transform object coordinates, relative to the object's origin, to rows and columns in the frame.

    Args:
        placement: float64 ``[4]``.
        rows: any shape that broadcasts with `columns`.
        columns: any shape that broadcasts with `rows`.
    """
    cos, sin = np.exp(placement[2]) * np.cos(placement[3]), np.exp(placement[2]) * np.sin(placement[3])
    return placement[0] + cos * rows + sin * columns, placement[1] + cos * columns - sin * rows


def to_object(placement: Placement, rows: Points, columns: Points) -> tuple[Points, Points]:
    """Transform rows and columns in the frame to object coordinates; the inverse of :func:`to_frame`."""
    cos, sin = np.cos(placement[3]) / np.exp(placement[2]), np.sin(placement[3]) / np.exp(placement[2])
    down, right = rows - placement[0], columns - placement[1]
    return cos * down - sin * right, sin * down + cos * right


def look_up(maps: FloatArray, rows: Points, columns: Points) -> FloatArray:
    """Values of the nearest pixels at given points.

    Args:
        maps: float32 ``[C, H, W]``.
        rows: rows of the points, any shape that broadcasts with `columns`.
        columns: columns of the points.

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
    """Bilinear interpolation of colors between weighted pixels.

    Args:
        colors: any number type, ``[H, W, 3]``.
        weight: weight of each pixel, at least 0, any number type or bool, ``[H, W]``; pixels outside have weight 0.
        rows: rows of the points, ``[n]``.
        columns: columns of the points, ``[n]``.

    Returns:
        colors, float32 ``[n, 3]``, 0 where the weight is 0; and interpolated weight, float32 ``[n]``.
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
    """Convert placements ``[..., 4]`` from pixels to cells of ``block`` pixels a side."""
    cells = np.array(placement, dtype=np.float64)
    cells[..., :2] = (cells[..., :2] - (block - 1) / 2) / block  # the centers of a cell and of its first pixel differ
    return cells


def in_pixels(placement: Placement, block: int) -> Placement:
    """The inverse of :func:`in_cells`."""
    pixels = np.array(placement, dtype=np.float64)
    pixels[..., :2] = pixels[..., :2] * block + (block - 1) / 2
    return pixels


def lattice(side: int, step: float = 1.0) -> tuple[Points, Points]:
    """Rows ``[side, 1]`` and columns ``[1, side]`` of a square grid centered on the origin, ``step`` apart."""
    line = np.asarray((np.arange(side) - (side - 1) / 2) * step, dtype=np.float64)
    return line[:, None], line[None, :]
