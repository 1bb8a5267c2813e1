"""Mapping of frames to the network input: stretch, letterbox or object-centric crop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.frames.cuts import shots_of
from amodal_diffusion.frames.transforms import Letterbox, Stretch, resize
from amodal_diffusion.types import BoolArray

# Distance in frames at which a frame's weight in the crop center is a quarter; far frames count if near ones hide it.
_MEMORY = 2.0
# Frames farther away than this are left out, so that the time is linear in the frames, unless leaving them out could
# move a center by more than a negligible part of a pixel, as where an object is hidden for longer.
_HORIZON, _NEGLIGIBLE = 500, 1e-3
_Box = tuple[int, int, int, int, int]  # top, bottom, left, right, area


@dataclass(frozen=True)
class CropCenter:
    """Center of an object-centric crop in one frame, and the size of the object.

    Attributes:
        row: row of the center, in pixels.
        column: column of the center, in pixels.
        height: largest visible height of the object in the whole shot, in pixels.
        width: largest visible width of the object in the whole shot, in pixels.
    """

    row: float
    column: float
    height: int
    width: int


def crop_centers(masks: Iterable[BoolArray], *, cuts: Sequence[int] = ()) -> list[CropCenter]:
    """Center the crop of each frame on an object; frames that hide it use the centers of neighboring frames.

    Each shot has centers and a size of its own. One that never shows the object gets the middle of the frame.

    When a hidden part reappears, the center of the visible part moves more than the object does. Centers are therefore
    averaged over time, weighted by visible area.

    Args:
        masks: modal mask of each frame, bool ``[H, W]``, in order; at least one is not empty.
        cuts: first frames of new shots.

    Returns:
        one center per frame; all of a shot have the same height and width.

    Raises:
        InputError: if every mask is empty.
    """
    track = BoxTrack()
    for mask in masks:
        track.add(mask)
    return track.centers(cuts=cuts)


class BoxTrack:
    """Bounding boxes of an object's masks, frame by frame; :func:`crop_centers` for masks that come one at a time."""

    def __init__(self) -> None:
        self._boxes: list[_Box | None] = []
        self._size = (1, 1)

    def add(self, mask: BoolArray) -> None:
        """Take the mask of the next frame, bool ``[H, W]``."""
        self._boxes.append(_box(mask))
        self._size = mask.shape[0], mask.shape[1]

    def centers(self, *, cuts: Sequence[int] = ()) -> list[CropCenter]:
        """The centers that :func:`crop_centers` gives for the masks so far.

        Args:
            cuts: first frames of new shots.

        Raises:
            InputError: if every mask is empty.
        """
        if not any(self._boxes):
            raise InputError("masks: empty in every frame; the object must be visible in at least one")
        shots = shots_of(len(self._boxes), cuts)
        return list(chain.from_iterable(_centers_of_shot(self._boxes[start:stop], self._size) for start, stop in shots))


def _centers_of_shot(boxes: Sequence[_Box | None], size: tuple[int, int]) -> list[CropCenter]:
    """Centers of one shot of frames of a size, from the boxes of its masks."""
    height, width = size
    seen = [(index, box) for index, box in enumerate(boxes) if box is not None]
    if not seen:
        return [CropCenter(height / 2, width / 2, height, width)] * len(boxes)
    times = np.array([index for index, _ in seen], dtype=np.float64)
    centers = np.array([[(top + bottom) / 2, (left + right) / 2] for _, (top, bottom, left, right, _) in seen])
    areas = np.array([box[4] for _, box in seen], dtype=np.float64)
    height = max(bottom - top for _, (top, bottom, _, _, _) in seen)
    width = max(right - left for _, (_, _, left, right, _) in seen)
    # Largest weight of all frames beyond the horizon, and the farthest that they can be from any other center.
    beyond = 2 * float(areas.max()) * _MEMORY**4 / (3 * _HORIZON**3)
    extent = float(np.ptp(centers, axis=0).max())
    result = []
    for index in range(len(boxes)):
        first, last = np.searchsorted(times, (index - _HORIZON, index + _HORIZON + 1)).tolist()
        weights = areas[first:last] / (1 + ((times[first:last] - index) / _MEMORY) ** 2) ** 2
        near = float(weights.sum())  # 0 where no frame within the horizon shows the object
        if last - first < len(times) and (near == 0.0 or beyond * extent > _NEGLIGIBLE * near):
            first, last = 0, len(times)
            weights = areas / (1 + ((times - index) / _MEMORY) ** 2) ** 2
        row, column = weights @ centers[first:last] / weights.sum()
        result.append(CropCenter(float(row), float(column), height, width))
    return result


@dataclass(frozen=True)
class ObjectCrop:
    """Object-centric crop of a frame, scaled to the size of the network input.

    Attributes:
        top: first row of the crop, which may extend beyond the frame on any side.
        left: first column of the crop.
        height: rows of the crop.
        width: columns of the crop.
        source_hw: height and width of the frame.
        target_hw: height and width that the crop is scaled to.
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
        """Crop around an object, with the aspect ratio of the target.

        Args:
            center: center of the crop, and size of the object.
            source_hw: height and width of the frame.
            target_hw: height and width that the crop is scaled to.
            crop_scale: side of the crop relative to the object's largest visible extent. The crop is at most as large
                as the
                whole frame, and a side has at least a quarter of the target's pixels.
        """
        aspect = target_hw[1] / target_hw[0]
        wanted = crop_scale * max(center.height, center.width / aspect)
        whole = max(source_hw[0], source_hw[1] / aspect)
        height = max(1, round(min(max(wanted, target_hw[0] / 4), whole)))
        width = max(1, round(height * aspect))
        row, column = min(max(center.row, 0), source_hw[0] - 1), min(max(center.column, 0), source_hw[1] - 1)
        return cls(round(row - height / 2), round(column - width / 2), height, width, source_hw, target_hw)

    def apply(self, frames: Tensor, pad_value: float | Literal["edge"]) -> Tensor:
        """Crop and scale frames; pixels outside the frame are filled.

        Args:
            frames: float ``[F, C, H, W]`` at the source size.
            pad_value: value outside the frame, or ``"edge"`` to repeat the frame's outermost pixels.

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
        """Scale crops back and paste them into frames.

        Args:
            frames: float ``[F, C, target height, target width]``.
            outside: value of frame pixels outside the crop.

        Returns:
            float ``[F, C, H, W]`` at the source size.
        """
        result = torch.full((*frames.shape[:2], *self.source_hw), outside, dtype=frames.dtype, device=frames.device)
        part, (rows, columns) = self.invert_part(frames)
        result[..., rows, columns] = part
        return result

    def invert_part(self, frames: Tensor) -> tuple[Tensor, tuple[slice, slice]]:
        """Scale crops back, without what lies beyond the frame.

        Args:
            frames: float ``[F, C, target height, target width]``.

        Returns:
            float ``[F, C, h, w]``; and its rows and columns in the frame.
        """
        (top, bottom), (left, right) = self._inside
        part = resize(frames, (self.height, self.width), antialias=self.antialias)
        part = part[..., top - self.top : bottom - self.top, left - self.left : right - self.left]
        return part, (slice(top, bottom), slice(left, right))

    @property
    def scale(self) -> float:
        """Target pixels per frame pixel along a side."""
        return self.target_hw[0] / self.height

    @property
    def _inside(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of the crop that lie in the frame, from first to one past the last."""
        rows = max(self.top, 0), min(self.top + self.height, self.source_hw[0])
        columns = max(self.left, 0), min(self.left + self.width, self.source_hw[1])
        return rows, columns


Geometry = Stretch | Letterbox | ObjectCrop
"""Mapping of a frame to the network input; ``apply`` maps a frame, ``invert`` maps back."""


def invert_part(geometry: Geometry, frames: Tensor) -> tuple[Tensor, tuple[slice, slice]]:
    """The part of the frame that the network saw, as :meth:`ObjectCrop.invert_part`; the whole frame if it is no crop.

    Args:
        geometry: mapping of the frame to the network input.
        frames: float ``[F, C, h, w]`` at the target size.
    """
    if isinstance(geometry, ObjectCrop):
        return geometry.invert_part(frames)
    return geometry.invert(frames, outside=0.0), (slice(0, geometry.source_hw[0]), slice(0, geometry.source_hw[1]))


def frame_geometry(config: SamplingConfig, source_hw: tuple[int, int], center: CropCenter | None = None) -> Geometry:
    """Choose the mapping of a frame to ``config.height`` x ``config.width``.

    Args:
        config: gives ``fit``, ``resample``, the size, and ``beyond.crop_scale``.
        source_hw: height and width of the frame.
        center: from :func:`crop_centers` over the whole clip; needed for ``fit="crop"``.

    Raises:
        InputError: if a crop has no center.
    """
    target_hw, antialias = (config.height, config.width), config.resample == "pil"
    if config.fit == "stretch":
        return Stretch(source_hw, target_hw, antialias)
    if config.fit == "letterbox":
        return Letterbox(source_hw, target_hw, antialias)
    if center is None:
        raise InputError(
            "center: fit is crop, so every frame needs the center of its crop, from crop_centers(masks) of the whole "
            "clip; give it, or take config(fit='letterbox')"
        )
    crop = ObjectCrop.around(center, source_hw, target_hw, crop_scale=config.beyond.crop_scale)
    return crop if antialias else replace(crop, antialias=False)


def _box(mask: BoolArray) -> _Box | None:
    """Top, bottom, left, right (one past the last) and area of a mask; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1, int(mask.sum())
