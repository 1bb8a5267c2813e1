"""Placements: similarity transforms between object and frame coordinates, and image lookup at the resulting points.

A placement is (row, column, logarithm of the scale, rotation in radians): the position of the object's origin in the
frame, its scale relative to object coordinates, and its rotation from the column axis towards the row axis.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from amodal_diffusion.frames.masks import bounds
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


@dataclass(frozen=True)
class WeightedPixels:
    """Weighted pixels of a frame, cropped to the box of the positive weights, with a border of one pixel of weight 0.

    Attributes:
        top: row of the frame in the first row of the box, which is border.
        left: column of the frame in the first column of the box, which is border.
        width: columns of the box, with both borders.
        weight: flat, row by row, float32 ``[height * width]``.
        colors: flat, one line per channel, any number type, ``[3, height * width]``.
    """

    top: int
    left: int
    width: int
    weight: FloatArray
    colors: Pixels

    @classmethod
    def of(cls, colors: Pixels, weight: Pixels) -> Self:
        """Crop a frame.

        Args:
            colors: any number type, ``[H, W, 3]``.
            weight: weight of each pixel, at least 0, any number type or bool, ``[H, W]``.
        """
        (top, bottom), (left, right) = bounds(weight)
        box = slice(top, bottom), slice(left, right)
        padded = np.pad(weight[box].astype(np.float32), 1)
        planes = np.zeros((colors.shape[-1], *padded.shape), colors.dtype)
        planes[:, 1:-1, 1:-1] = colors[box].transpose(2, 0, 1)
        return cls(top - 1, left - 1, padded.shape[1], padded.ravel(), planes.reshape(len(planes), -1))

    def interpolate(
        self, rows: Points, columns: Points, *, above: float
    ) -> tuple[npt.NDArray[np.intp], FloatArray, FloatArray]:
        """Bilinear interpolation of the colors at the points whose interpolated weight is larger than ``above``.

        Args:
            rows: rows of the points in the frame, ``[n]``.
            columns: columns of the points, ``[n]``.
            above: at least 0; the colors of other points are not computed.

        Returns:
            indices of these ``k`` points, ascending; their colors, float32 ``[3, k]``; and their weights, float32
            ``[k]``.
        """
        top, left = np.floor(rows), np.floor(columns)
        bottom = self.top + len(self.weight) // self.width - 1
        near = np.flatnonzero(
            (top >= self.top) & (top < bottom) & (left >= self.left) & (left < self.left + self.width - 1)
        )
        top, left = top[near], left[near]
        down, right = (rows[near] - top).astype(np.float32), (columns[near] - left).astype(np.float32)
        first = (top - self.top).astype(np.intp) * self.width + (left - self.left).astype(np.intp)
        corners = []
        for below, share_of_row in ((0, 1 - down), (self.width, down)):
            for beside, share_of_column in ((0, 1 - right), (1, right)):
                at = first + (below + beside)
                corners.append((at, share_of_row * share_of_column * self.weight.take(at)))
        total = functools.reduce(np.add, (counts for _, counts in corners))
        kept = np.flatnonzero(total > above)
        total = total[kept]
        sums = np.zeros((len(self.colors), len(kept)), np.float32)
        for at, counts in corners:
            into, share = at[kept], counts[kept]
            for channel, plane in enumerate(self.colors):
                sums[channel] += share * plane.take(into)
        return near[kept], sums / np.maximum(total, np.float32(1e-6)), total


def bilinear(maps: FloatArray, rows: Points, columns: Points) -> FloatArray:
    """Bilinear values between cell centers, computed in float64; the outermost cells extend outside.

    Args:
        maps: float32 ``[C, h, w]``.
        rows: rows of the points, ``[n]``.
        columns: columns of the points, ``[n]``.

    Returns:
        float32 ``[C, n]``.
    """
    height, width = maps.shape[1:]
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = rows - top, columns - left
    first = top * width + left
    below, beside = np.where(top + 1 < height, width, 0), (left + 1 < width).astype(np.intp)
    corners = (first, first + beside, first + below, first + below + beside)
    shares = ((1 - down, 1 - right), (1 - down, right), (down, 1 - right), (down, right))
    found = np.empty((len(maps), len(rows)), np.float32)
    for line, plane in zip(found, maps.reshape(len(maps), -1), strict=True):
        # The order of the products is that of scipy.ndimage.map_coordinates
        line[:] = functools.reduce(
            np.add, (plane.take(at) * row * column for at, (row, column) in zip(corners, shares, strict=True))
        )
    return found


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
