"""Some frames of a clip as a clip: those that have a mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from amodal_diffusion.io.timing import Timing
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.types import UInt8Array


@dataclass(frozen=True)
class ClipSubset:
    """Frames of a clip (see :class:`amodal_diffusion.io.video_reader.ClipReader`), each shown at its own time.

    Attributes:
        clip: the whole clip.
        positions: index of each frame in the whole clip, rising; at least one.
    """

    clip: ClipReader
    positions: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Where the clip comes from."""
        return self.clip.path

    @property
    def num_frames(self) -> int:
        """How many frames there are."""
        return len(self.positions)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return float(self.timing.rate)

    @property
    def height(self) -> int:
        """Pixels."""
        return self.clip.height

    @property
    def width(self) -> int:
        """Pixels."""
        return self.clip.width

    @property
    def timing(self) -> Timing:
        """When each frame is shown."""
        whole = self.clip.timing
        ticks = [whole.ticks[position] for position in self.positions]
        span = ticks[-1] - ticks[0]
        rate = Fraction(len(ticks) - 1) / (span * whole.unit) if span else whole.rate
        start = whole.start + ticks[0] * whole.unit
        return Timing([tick - ticks[0] for tick in ticks], whole.unit, rate, start, whole.shifts)

    @property
    def pixel_aspect(self) -> Fraction:
        """Width over height of a pixel."""
        return self.clip.pixel_aspect

    @property
    def source_color(self) -> str:
        """What the files say of their colors."""
        return self.clip.source_color

    def __iter__(self) -> Iterator[UInt8Array]:
        wanted = frozenset(self.positions)
        return (frame for index, frame in enumerate(self.clip) if index in wanted)
