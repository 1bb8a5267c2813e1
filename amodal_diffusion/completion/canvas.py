"""Outpainting: a canvas with margins around the frame, so that objects cut off by the border can be completed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.depth_files import DepthTrack
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.timing import Timing
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.types import UInt8Array

T = TypeVar("T", bound=np.generic)

MARGIN_GRAY = 64
"""Gray level of the margins. It only shows a viewer where the frame ends: nothing visible lies in the margins."""
_MARGIN_NEARER = 0.02  # share of the clip's range of depth


@dataclass(frozen=True)
class Canvas:
    """The frame with outpainting margins: equal ones on the left and right, and equal ones above and below.

    Attributes:
        frame_height: pixels of the frame.
        frame_width: pixels of the frame.
        top: pixels of the margin above the frame, and of the one below.
        left: pixels of the margin left of the frame, and of the one to its right.
    """

    frame_height: int
    frame_width: int
    top: int
    left: int

    @classmethod
    def around(cls, clip: ClipReader, share: float) -> Self:
        """Add margins to a clip.

        Args:
            clip: the frames.
            share: size of each margin over the frame's height or width, 0 to 1; 0 for no margins.

        Raises:
            InputError: if the share is out of range.
        """
        if not 0 <= share <= 1:
            raise InputError(f"--margin: expected 0 to 1, the size of each margin over the frame's, got {share:g}")
        return cls(clip.height, clip.width, round(share * clip.height), round(share * clip.width))

    @property
    def height(self) -> int:
        """Height in pixels, margins included."""
        return self.frame_height + 2 * self.top

    @property
    def width(self) -> int:
        """Width in pixels, margins included."""
        return self.frame_width + 2 * self.left

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the frame covers."""
        return slice(self.top, self.top + self.frame_height), slice(self.left, self.left + self.frame_width)

    def place_clip(self, clip: ClipReader) -> ClipReader:
        """Put the frames on the canvas; the margins are dark gray.

        Args:
            clip: frames of the frame's size; a clip of the canvas's size is returned unchanged.
        """
        return clip if self._is_filled(clip.height, clip.width) else _PlacedClip(clip, self)

    def place_masks(self, track: MaskTrack) -> MaskTrack:
        """Put the masks of an object on the canvas; the margins are empty.

        Args:
            track: masks of the frame's size; masks of the canvas's size are returned unchanged.
        """
        if self._is_filled(track.height, track.width):
            return track
        return replace(
            track, height=self.height, width=self.width, _masks=lambda: (self._padded(mask, False) for mask in track)
        )

    def place_depth(self, depth: DepthTrack, *, cuts: Sequence[int] = ()) -> DepthTrack:
        """Put depth on the canvas. The margins are a little nearer than all of the shot: what reaches there is hidden.

        Args:
            depth: of the frame's size, or of the canvas's, which comes back as it is.
            cuts: first frames of new shots.
        """
        if self._is_filled(depth.height, depth.width):
            return depth
        # 1, whatever the unit, where all is equally near
        margins = [near + ((near - far) * _MARGIN_NEARER or 1.0) for far, near in depth.shot_limits(cuts)]
        return replace(
            depth,
            height=self.height,
            width=self.width,
            limits=(depth.limits[0], max(margins)),
            ranges=tuple((far, margin) for (far, _), margin in zip(depth.ranges, margins, strict=True)),
            _maps=lambda: (self._padded(values, margin) for values, margin in zip(depth, margins, strict=True)),
        )

    def _is_filled(self, height: int, width: int) -> bool:
        return (height, width) == (self.height, self.width)

    def _padded(self, frame: npt.NDArray[T], value: float) -> npt.NDArray[T]:
        margins = ((self.top, self.top), (self.left, self.left)) + ((0, 0),) * (frame.ndim - 2)
        return np.pad(frame, margins, constant_values=value)


@dataclass(frozen=True)
class _PlacedClip:
    """A clip with margins (see :class:`amodal_diffusion.io.video_reader.ClipReader`)."""

    clip: ClipReader
    canvas: Canvas

    @property
    def path(self) -> Path:
        return self.clip.path

    @property
    def num_frames(self) -> int:
        return self.clip.num_frames

    @property
    def fps(self) -> float:
        return self.clip.fps

    @property
    def height(self) -> int:
        return self.canvas.height

    @property
    def width(self) -> int:
        return self.canvas.width

    @property
    def positions(self) -> tuple[int, ...] | None:
        return self.clip.positions

    @property
    def timing(self) -> Timing:
        return self.clip.timing

    @property
    def pixel_aspect(self) -> Fraction:
        return self.clip.pixel_aspect

    @property
    def source_color(self) -> str:
        return self.clip.source_color

    def __iter__(self) -> Iterator[UInt8Array]:
        for frame in self.clip:
            yield self.canvas._padded(frame, MARGIN_GRAY)
