"""How a frame becomes what the network sees: stretched, letterboxed, or cropped around the object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.frames.transforms import Letterbox, Stretch, resize
from amodal_diffusion.types import BoolArray, InputError

# Frames at this distance in time count a quarter for where the object is; far ones still count where near ones hide it.
_MEMORY = 2.0


@dataclass(frozen=True)
class CropCenter:
    """Where an object-centric crop lies in one frame, and how large the object is.

    Attributes:
        row: center of the crop, in pixels.
        column: center of the crop, in pixels.
        height: largest visible height of the object in the whole clip, in pixels.
        width: largest visible width of the object in the whole clip, in pixels.
    """

    row: float
    column: float
    height: int
    width: int


def crop_centers(masks: Iterable[BoolArray]) -> list[CropCenter]:
    """Center the crop of each frame on an object; frames that hide the object take the centers of neighboring frames.

    A part that comes out of hiding moves the center of the visible part more than the object moves, so centers are
    averaged over time, weighted by visible area.

    Args:
        masks: bool ``[H, W]`` a frame, in order; at least one is not empty.

    Returns:
        one center a frame; all have the same height and width.

    Raises:
        InputError: if every mask is empty.
    """
    boxes = [_box(mask) for mask in masks]
    seen = [(index, box) for index, box in enumerate(boxes) if box is not None]
    if not seen:
        raise InputError("masks: empty in every frame; the object must be visible in at least one")
    times = np.array([index for index, _ in seen], dtype=np.float64)
    centers = np.array([[(top + bottom) / 2, (left + right) / 2] for _, (top, bottom, left, right, _) in seen])
    areas = np.array([box[4] for _, box in seen], dtype=np.float64)
    height = max(bottom - top for _, (top, bottom, _, _, _) in seen)
    width = max(right - left for _, (_, _, left, right, _) in seen)
    result = []
    for index in range(len(boxes)):
        weights = areas / (1 + ((times - index) / _MEMORY) ** 2) ** 2
        row, column = weights @ centers / weights.sum()
        result.append(CropCenter(float(row), float(column), height, width))
    return result


@dataclass(frozen=True)
class ObjectCrop:
    """The part of a frame around an object, scaled to the size that the network works at.

    Attributes:
        top: first row of the part; may lie outside the frame, like the following.
        left: first column.
        height: rows of the part.
        width: columns of the part.
        source_hw: height and width of the frame.
        target_hw: height and width that the part is scaled to.
        antialias: as for :func:`~amodal_diffusion.frames.transforms.resize`.
    """

    top: int
    left: int
    height: int
    width: int
    source_hw: tuple[int, int]
    target_hw: tuple[int, int]
    antialias: bool = True

    @classmethod
    def around(
        cls, center: CropCenter, source_hw: tuple[int, int], target_hw: tuple[int, int], *, crop_scale: float
    ) -> ObjectCrop:
        """The part that shows the object with room around it, in the target's aspect.

        Args:
            center: where the object is.
            source_hw: height and width of the frame.
            target_hw: height and width that the part is scaled to.
            crop_scale: side of the part over that of the object's largest visible extent; at most the whole frame is
                shown, at least a quarter of the target's pixels a side.
        """
        aspect = target_hw[1] / target_hw[0]
        wanted = crop_scale * max(center.height, center.width / aspect)
        whole = max(source_hw[0], source_hw[1] / aspect)
        height = max(1, round(min(max(wanted, target_hw[0] / 4), whole)))
        width = max(1, round(height * aspect))
        row, column = min(max(center.row, 0), source_hw[0] - 1), min(max(center.column, 0), source_hw[1] - 1)
        return cls(round(row - height / 2), round(column - width / 2), height, width, source_hw, target_hw)

    def apply(self, frames: Tensor, pad_value: float | Literal["edge"]) -> Tensor:
        """Cut out and scale; what lies outside the frame is filled.

        Args:
            frames: float ``[F, C, H, W]`` at the source size.
            pad_value: what is outside the frame, or ``"edge"`` to repeat the frame's outermost pixels.

        Returns:
            float ``[F, C, target height, target width]``.
        """
        (top, bottom), (left, right) = self._inside
        borders = (
            left - self.left,
            self.left + self.width - right,
            top - self.top,
            self.top + self.height - bottom,
        )
        part = frames[..., top:bottom, left:right]
        if pad_value == "edge":
            part = functional.pad(part, borders, mode="replicate")
        else:
            part = functional.pad(part, borders, value=pad_value)
        return resize(part, self.target_hw, antialias=self.antialias)

    def invert(self, frames: Tensor, *, outside: float) -> Tensor:
        """Scale back and put in place.

        Args:
            frames: float ``[F, C, target height, target width]``.
            outside: value of the frame's pixels that the part does not show.

        Returns:
            float ``[F, C, H, W]`` at the source size.
        """
        (top, bottom), (left, right) = self._inside
        part = resize(frames, (self.height, self.width), antialias=self.antialias)
        result = torch.full((*frames.shape[:2], *self.source_hw), outside, dtype=frames.dtype, device=frames.device)
        result[..., top:bottom, left:right] = part[
            ..., top - self.top : bottom - self.top, left - self.left : right - self.left
        ]
        return result

    @property
    def scale(self) -> float:
        """Pixels of the target that a pixel of the frame becomes, a side."""
        return self.target_hw[0] / self.height

    @property
    def _inside(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of the part that the frame has, from first to one past the last."""
        rows = max(self.top, 0), min(self.top + self.height, self.source_hw[0])
        columns = max(self.left, 0), min(self.left + self.width, self.source_hw[1])
        return rows, columns


Geometry = Stretch | Letterbox | ObjectCrop
"""How the network sees a frame; ``apply`` goes there, ``invert`` goes back."""


def frame_geometry(config: SamplingConfig, source_hw: tuple[int, int], center: CropCenter | None = None) -> Geometry:
    """How a frame becomes ``config.height`` x ``config.width``.

    Args:
        config: ``fit``, ``resample``, the size, and ``beyond.crop_scale``.
        source_hw: height and width of the frame.
        center: where the object is, from :func:`crop_centers` over the whole clip; needed for ``fit="crop"``.

    Raises:
        InputError: if a crop has no center.
    """
    target_hw, antialias = (config.height, config.width), config.resample == "pil"
    if config.fit == "stretch":
        return Stretch(source_hw, target_hw, antialias)
    if config.fit == "letterbox":
        return Letterbox(source_hw, target_hw, antialias)
    if center is None:
        raise InputError("center: fit is crop, so every frame needs the center of its crop; see crop_centers()")
    crop = ObjectCrop.around(center, source_hw, target_hw, crop_scale=config.beyond.crop_scale)
    return crop if antialias else replace(crop, antialias=False)


def _box(mask: BoolArray) -> tuple[int, int, int, int, int] | None:
    """Top, bottom, left, right (one past the last) and area of what a mask shows; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1, int(mask.sum())
