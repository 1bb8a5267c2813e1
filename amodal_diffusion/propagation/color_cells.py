"""Visible colors of an object averaged over blocks of pixels (cells), and placements refined by these colors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from amodal_diffusion.frames.masks import bounds
from amodal_diffusion.propagation.placement import (
    Placement,
    WeightedPixels,
    in_cells,
    in_pixels,
    to_frame,
    to_object,
)
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

CELLS = 96
"""Largest number of cells along the object's longest side."""
BLURS = (1.5, 1.0, 0.7, 0.7)
"""Standard deviation of the color blur in each round, in cells; larger placement errors are not corrected."""
NEIGHBORS = 10
"""Largest number of other frames, nearest in time, that a frame is compared with."""
_LEAST_COMMON = 12  # frames that share fewer visible cells are not compared
_MOST_CELLS = 1500  # frames with at least twice as many visible cells are subsampled
_SURE = 0.9  # visible share above which a cell counts as visible
_STEP = 1.0  # cells; largest change in one round
_STAY = 0.02  # weight of the distance from the first placement, relative to the trace of the normal matrix
_NOISE = 9.0  # gray levels squared; variance that no placement explains


@dataclass(frozen=True)
class ColorCells:
    """Visible colors of an object by frame and cell.

    Attributes:
        colors: mean color of a cell's visible pixels, in gray levels, float32 ``[F, h, w, 3]``; 0 if none is visible.
        weight: visible share of a cell's pixels, float32 ``[F, h, w]``.
        block: side of a cell in pixels.
    """

    colors: FloatArray
    weight: FloatArray
    block: int

    @classmethod
    def of(cls, rgb: UInt8Array, modal: BoolArray, *, side: int) -> ColorCells:
        """Average the visible colors of a clip.

        Args:
            rgb: frames, uint8 ``[F, H, W, 3]``.
            modal: modal (visible) masks, bool ``[F, H, W]``.
            side: longest side of the object in pixels, which at most `CELLS` cells cover.
        """
        block = max(1, -(-side // CELLS))
        height, width = (-(-length // block) for length in modal.shape[1:])
        colors = np.empty((len(modal), height, width, 3), dtype=np.float32)
        weight = np.empty(colors.shape[:3], dtype=np.float32)
        for frame, visible in enumerate(modal):  # one frame at a time: float colors of a long clip would not fit
            colors[frame], weight[frame] = 0, 0
            (top, bottom), (left, right) = (
                (start // block, -(-stop // block)) for start, stop in bounds(visible)
            )  # of the cells that show the object
            if bottom > top:
                box = slice(top * block, bottom * block), slice(left * block, right * block)
                sums = _cell_sums(rgb[frame][box], visible[box], block)
                colors[frame, top:bottom, left:right] = sums[..., :3] / np.maximum(sums[..., 3:], 1)
                weight[frame, top:bottom, left:right] = sums[..., 3] / block**2
        return cls(colors, weight, block)

    @cached_property
    def pixels(self) -> list[WeightedPixels]:
        """The cells of each frame, for lookup."""
        return [WeightedPixels.of(*frame) for frame in zip(self.colors, self.weight, strict=True)]

    def blurred(self, blur: float) -> ColorCells:
        """The same cells, with the colors of visible cells blurred into each other.

        Args:
            blur: standard deviation in cells.
        """
        spread = (0, blur, blur)
        weight = ndimage.gaussian_filter(self.weight, spread)
        colors = ndimage.gaussian_filter(self.colors * self.weight[..., None], (*spread, 0))
        return ColorCells(colors / np.maximum(weight, 1e-3)[..., None], self.weight, self.block)

    def slopes(self, frame: int) -> tuple[FloatArray, FloatArray]:
        """Color gradients along rows and along columns, float32 ``[h, w, 3]`` each; 0 at and beside hidden cells."""
        visible = self.weight[frame] > _SURE
        if min(visible.shape) < 2:  # a gradient needs two cells along each axis
            nothing = np.zeros_like(self.colors[frame])
            return nothing, nothing
        inner = ndimage.binary_erosion(visible)[..., None]
        rows, columns = np.gradient(self.colors[frame], axis=(0, 1))
        return rows * inner, columns * inner


def _cell_sums(rgb: UInt8Array, visible: BoolArray, block: int) -> FloatArray:
    """Sum of the visible colors of each cell, and their number, float32 ``[h, w, 4]``: whole numbers, thus exact."""
    height, width = (-(-length // block) for length in visible.shape)
    sums = np.zeros((height * block, width, 4), dtype=np.float32)
    padded = np.zeros((height * block, width * block, 4), dtype=np.uint8)
    padded[: visible.shape[0], : visible.shape[1], :3] = rgb * visible[..., None]
    padded[: visible.shape[0], : visible.shape[1], 3] = visible
    for offset in range(block):
        sums += padded[:, offset::block]
    return np.asarray(sums.reshape(height, block, width, 4).sum(axis=1))


def place_finely(cells: ColorCells, placements: Placement, placed: Sequence[int]) -> Placement:
    """Refine placements to subcell precision, so that colors visible in two frames agree best.

    Takes Gauss-Newton steps on the squared color differences to the nearest frames in time, one frame at a time. A
    constant color offset between two frames is ignored, and cells with large differences get a low weight.

    Args:
        cells: colors of the clip.
        placements: in pixels, float64 ``[F, 4]``.
        placed: frames to refine; the others keep their placement.

    Returns:
        refined placements in pixels, float64 ``[F, 4]``.
    """
    first = in_cells(placements, cells.block)
    found = first.copy()
    for blur in BLURS:
        blurred = cells.blurred(blur)
        for frame in placed:
            near = sorted(set(placed) - {frame}, key=lambda other: abs(other - frame))[:NEIGHBORS]
            found[frame] += _step(blurred, found, frame, near, first[frame])
    return in_pixels(found, cells.block)


def _step(cells: ColorCells, placements: Placement, frame: int, near: Sequence[int], first: Placement) -> Placement:
    """One damped Gauss-Newton step: the change of a frame's placement, ``[4]``.

    A prior keeps the placement near the first one in directions that colors do not determine, as along stripes.
    """
    rows, columns = np.nonzero(cells.weight[frame] > _SURE)
    every = max(1, len(rows) // _MOST_CELLS)
    rows, columns = rows[::every], columns[::every]
    if len(rows) < _LEAST_COMMON:
        return np.zeros(4)
    down, right = rows - placements[frame, 0], columns - placements[frame, 1]
    radius = float(np.sqrt((down**2 + right**2).mean())) + 1e-6
    by_row, by_column = (slope[rows, columns] for slope in cells.slopes(frame))  # [n, 3]
    # Derivatives by down, right, growth and rotation, in units of one cell each; [4, n, 3].
    ways = np.stack(
        [
            by_row,
            by_column,
            (by_row * down[:, None] + by_column * right[:, None]) / radius,
            (by_row * right[:, None] - by_column * down[:, None]) / radius,
        ]
    )
    own = cells.colors[frame, rows, columns]
    points = to_object(placements[frame], rows.astype(np.float64), columns.astype(np.float64))
    square, slope = np.zeros((4, 4)), np.zeros(4)
    for other in near:
        both, colors, _ = cells.pixels[other].interpolate(*to_frame(placements[other], *points), above=_SURE)
        if len(both) < _LEAST_COMMON:
            continue
        difference = colors.T - own[both]  # [m, 3]
        seen = difference - difference.mean(axis=0)
        squared = (seen**2).mean(axis=1)
        usual = np.median(squared) + _NOISE
        trust = usual / (4 * usual + squared) ** 2  # falls off beyond twice the usual difference
        common = ways[:, both]
        weighted = common * trust[:, None]
        square += np.tensordot(weighted, common, axes=((1, 2), (1, 2)))
        slope += np.tensordot(weighted, seen, axes=((1, 2), (0, 1)))
    if not square.any():
        return np.zeros(4)
    unit = np.asarray([1.0, 1.0, radius, radius])
    stay = _STAY * np.trace(square)
    way = (placements[frame] - first) * unit
    change = np.clip(np.linalg.solve(square + stay * np.eye(4), slope - stay * way), -_STEP, _STEP)
    return np.asarray(change / unit)
