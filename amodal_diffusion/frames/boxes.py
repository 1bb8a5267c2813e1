"""Boxes around masks, and crops that follow an object: each frame has its own box, all have one common scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.transforms import resize
from amodal_diffusion.types import BoolArray

Box = tuple[int, int, int, int]
"""Half-open box in pixels: first row, first column, one past the last row, one past the last column."""

SMALLEST_CROP = 8
"""Smallest side of a crop in frame pixels, so that an object of one or two pixels still shows its surroundings."""


def tight_box(mask: BoolArray) -> Box | None:
    """Smallest box that contains a mask, bool ``[H, W]``; None if the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def enlarge(box: Box, factor: float, source_hw: tuple[int, int], *, smallest: int = 1) -> Box:
    """Enlarge a box around its center, then clip it to the frame; a clipped box is no longer centered.

    Args:
        box: the box, which may leave the frame.
        factor: new side over old side, above 0.
        source_hw: height and width of the frame.
        smallest: sides are at least this many pixels long, or as long as the frame.

    Raises:
        InputError: if the factor is not above 0, or the box has no area inside the frame.
    """
    if not factor > 0:
        raise InputError(f"factor: expected above 0, got {factor}")
    spans = [_span(box[axis], box[axis + 2], factor, source_hw[axis], smallest=smallest) for axis in (0, 1)]
    (top, bottom), (left, right) = spans
    return top, left, bottom, right


def _span(first: int, end: int, factor: float, side: int, *, smallest: int) -> tuple[int, int]:
    """Enlarge one axis of a box and clip it to ``0..side``."""
    if first >= end or end <= 0 or first >= side:
        raise InputError(f"box: expected first < end inside 0..{side}, got {first}..{end}; boxes are y0, x0, y1, x1")
    center, half = (first + end) / 2, max(factor * (end - first), smallest) / 2
    low, high = max(0, round(center - half)), min(side, round(center + half))
    missing = min(smallest, side) - (high - low)  # a border cut a part off
    if missing > 0:
        low = max(0, low - missing)
        high = min(side, low + min(smallest, side))
    return low, high


def track_boxes(masks: BoolArray) -> list[Box]:
    """Tight box of each frame; a frame that hides the object gets a box interpolated between its neighbors'.

    Interpolation is linear in the index of the frame. Before the first and after the last visible frame, the box stays
    where it is there.

    Args:
        masks: modal masks, bool ``[F, H, W]``, of which at least one is not empty.

    Returns:
        one box per frame.

    Raises:
        InputError: if every mask is empty.
    """
    found = [tight_box(mask) for mask in masks]
    visible = [index for index, box in enumerate(found) if box is not None]
    if not visible:
        raise InputError("masks: empty in every frame; the object must be visible in at least one")
    corners = np.array([box for box in found if box is not None], dtype=np.float64)
    columns = [np.interp(range(len(found)), visible, corners[:, corner]) for corner in range(4)]
    boxes = np.rint(np.stack(columns, axis=1)).astype(int)
    return [(int(y0), int(x0), max(int(y0) + 1, int(y1)), max(int(x0) + 1, int(x1))) for y0, x0, y1, x1 in boxes]


@dataclass(frozen=True)
class BoxCrop:
    """A box of a frame, scaled and padded on the right and at the bottom to a square.

    Attributes:
        box: the part of the frame, inside of it.
        source_hw: height and width of the frame.
        inner_hw: height and width of the scaled box.
        size: side of the square.
    """

    box: Box
    source_hw: tuple[int, int]
    inner_hw: tuple[int, int]
    size: int

    def apply(self, frames: Tensor, *, nearest: bool = False) -> Tensor:
        """Crop, scale and pad with zeros.

        Args:
            frames: float ``[N, C, H, W]`` at the source size.
            nearest: take the nearest pixel, for masks; otherwise bilinear with antialiasing.

        Returns:
            float ``[N, C, size, size]``.
        """
        top, left, bottom, right = self.box
        part = frames[..., top:bottom, left:right]
        if nearest:
            part = functional.interpolate(part, size=self.inner_hw, mode="nearest-exact")
        else:
            part = resize(part, self.inner_hw)
        height, width = self.inner_hw
        return functional.pad(part, (0, self.size - width, 0, self.size - height))

    def paste_back(self, crops: Tensor) -> Tensor:
        """Scale crops back bilinearly and paste them into empty frames; the inverse of :meth:`apply`.

        Args:
            crops: float ``[N, C, size, size]``.

        Returns:
            float ``[N, C, H, W]`` at the source size, 0 outside the box.
        """
        top, left, bottom, right = self.box
        height, width = self.inner_hw
        frames = crops.new_zeros(*crops.shape[:2], *self.source_hw)
        frames[..., top:bottom, left:right] = resize(crops[..., :height, :width], (bottom - top, right - left))
        return frames


def box_crops(boxes: Sequence[Box], source_hw: tuple[int, int], size: int, *, common_scale: bool) -> list[BoxCrop]:
    """Crops of boxes inside a frame.

    Args:
        boxes: one per frame.
        source_hw: height and width of the frames.
        size: side of the square crops.
        common_scale: scale all boxes by one factor per axis, such that the tallest and the widest fill the square.
            Otherwise each box is stretched to the whole square. Neither keeps the aspect ratio.
    """
    sides = [(bottom - top, right - left) for top, left, bottom, right in boxes]
    tallest, widest = (max(side[axis] for side in sides) for axis in (0, 1))
    crops = []
    for box, (height, width) in zip(boxes, sides, strict=True):
        inner = (max(1, round(height * size / tallest)), max(1, round(width * size / widest)))
        crops.append(BoxCrop(box, source_hw, inner if common_scale else (size, size), size))
    return crops
