"""When the frames of a clip are shown: at a steady rate, or each at a time of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Self


@dataclass(frozen=True)
class Timing:
    """Times of the frames of a clip.

    Attributes:
        ticks: when each frame is shown, in units after the first: 0, then rising.
        unit: seconds.
        rate: frames a second, on average where it varies.
        start: seconds after the beginning of the file at which the first frame is shown; sound is placed by it.
    """

    ticks: Sequence[int]
    unit: Fraction
    rate: Fraction
    start: Fraction = Fraction(0)

    @classmethod
    def steady(cls, num_frames: int, fps: float, *, start: Fraction = Fraction(0)) -> Self:
        """Frames that follow each other at one rate.

        Args:
            num_frames: how many.
            fps: frames a second, above 0.
            start: as the attribute.
        """
        rate = _as_fraction(fps)
        return cls(range(num_frames), 1 / rate, rate, start)

    @classmethod
    def stored(cls, times: Sequence[int], unit: Fraction, fps: float) -> Self | None:
        """Frames that a file gives a time each; steady where they are so up to the rounding of those times.

        Args:
            times: in units.
            unit: seconds.
            fps: frames a second, on average.

        Returns:
            None where the times do not rise.
        """
        ticks = [time - times[0] for time in times]
        if any(later <= earlier for earlier, later in pairwise(ticks)):
            return None
        steady = cls.steady(len(ticks), fps, start=times[0] * unit)
        step = float(steady.unit / unit)
        if all(abs(tick - index * step) <= 1.0 for index, tick in enumerate(ticks)):
            return steady
        return cls(ticks, unit, steady.rate, steady.start)

    def seconds(self, index: int) -> Fraction:
        """Seconds from the first frame to another.

        Args:
            index: of the other.
        """
        return self.ticks[index] * self.unit


def _as_fraction(fps: float) -> Fraction:
    """A rate as film and television have it, such as 30000/1001."""
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
