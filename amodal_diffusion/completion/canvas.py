"""A canvas larger than the frame, on which objects that the border cuts off have room to be whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from amodal_diffusion.io.depth_files import DepthTrack
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.timing import Timing
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.types import InputError, UInt8Array

T = TypeVar("T", bound=np.generic)

MARGIN_GRAY = 64
"""Of the frames' margins. No network sees it, as nothing is visible there: it shows a person where the frame ends."""
_MARGIN_NEARER = 0.02  # of the clip's range of depth


@dataclass(frozen=True)
class Canvas:
    """The frame with equal margins left and right, and above and below.

    Attributes:
        frame_height: pixels of the frame.
        frame_width: pixels of the frame.
        top: row of the canvas at which the frame begins; there are as many below it.
        left: column of the canvas at which the frame begins; there are as many right of it.
    """

    frame_height: int
    frame_width: int
    top: int
    left: int

    @classmethod
    def around(cls, clip: ClipReader, share: float) -> Self:
        """A canvas for a clip.

        Args:
            clip: the frames.
            share: of the frame's height and width that each margin has, 0 to 1; 0 for none.

        Raises:
            InputError: if the share is another.
        """
        if not 0 <= share <= 1:
            raise InputError(f"--margin: expected 0 to 1, the share of the frame that each margin has, got {share:g}")
        return cls(clip.height, clip.width, round(share * clip.height), round(share * clip.width))

    @property
    def height(self) -> int:
        """Pixels."""
        return self.frame_height + 2 * self.top

    @property
    def width(self) -> int:
        """Pixels."""
        return self.frame_width + 2 * self.left

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the frame fills."""
        return slice(self.top, self.top + self.frame_height), slice(self.left, self.left + self.frame_width)

    def place_clip(self, clip: ClipReader) -> ClipReader:
        """Put the frames on the canvas; their margins are dark gray.

        Args:
            clip: of the frame's size, or of the canvas's, which comes back as it is.
        """
        return clip if self._is_filled(clip.height, clip.width) else _PlacedClip(clip, self)

    def place_masks(self, track: MaskTrack) -> MaskTrack:
        """Put the masks of an object on the canvas; their margins are empty.

        Args:
            track: of the frame's size, or of the canvas's, which comes back as it is.
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
    """A clip on a canvas (see :class:`amodal_diffusion.io.video_reader.ClipReader`)."""

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

    def __iter__(self) -> Iterator[UInt8Array]:
        for frame in self.clip:
            yield self.canvas._padded(frame, MARGIN_GRAY)
