"""When the frames of a clip are shown: at a steady rate, or each at a time of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median
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


def joined_ticks(ticks: Sequence[int | None]) -> list[int | None]:
    """Times of frames in the order in which they are shown, of a file that pieces of recordings were joined to.

    Where times jump back by more than two frames, as they do where the next piece begins or a counter starts anew, the
    frames go on at the usual distance.

    Args:
        ticks: as the file has them; None for a frame without a time.
    """
    known = [tick for tick in ticks if tick is not None]
    steps = [later - earlier for earlier, later in pairwise(known) if later > earlier]
    usual = round(median(steps)) if steps else 0
    mended: list[int | None] = []
    last, offset = None, 0
    for tick in ticks:
        if tick is None:
            mended.append(None)
            continue
        if last is not None and usual and tick + offset < last - 2 * usual:
            offset = last + usual - tick
        last = tick + offset
        mended.append(last)
    return mended


def _as_fraction(fps: float) -> Fraction:
    """A rate as film and television have it, such as 30000/1001."""
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))


# Frames that may be missing of those promised: rates and durations in headers are rounded, and phones drop frames.
_MISSING_SHARE = 0.02
# A rate varies if more than this share of the steps between frames is off the usual step by more than that part
# of it, which is more than what rounding to milliseconds does to 120 frames a second.
_IRREGULAR_SHARE, _IRREGULAR_STEP = 0.1, 0.3


@dataclass
class DecodeTally:
    """What came out of a decoder, and what went wrong in it.

    Attributes:
        frames: how many frames decoded.
        errors: how often the decoder or the container reader gave up on something.
        patched: frames that the decoder marks as damaged and patched up.
        times: seconds at which frames are shown, of those that have a time.
        last_shown: seconds for which the last frame is shown; 0 if the file does not say.
        start: seconds at which the first frame of the whole video is shown.
        stored: seconds at which the frames of all packets that were read are shown, whether they decode or not.
        indexed: the file has an index of all packets, so that none is passed over in reading.
    """

    frames: int = 0
    errors: int = 0
    patched: int = 0
    times: list[float] = field(default_factory=list)
    last_shown: float = 0.0
    start: float = 0.0
    stored: list[float] = field(default_factory=list)
    indexed: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the tally means.

    Attributes:
        sound: whether nothing is missing and nothing is damaged.
        duration: seconds that the header promises; None if it does not say.
        rate: frames a second that the header promises; None if it does not say.
        expected: frames there should be, duration x rate; None if one of them is unknown.
        fps: frames a second: the promised rate, or the average of the times where the rate varies.
        positions: of an unsound video, the place of each frame that decodes in the whole one; None if unknown.
    """

    sound: bool
    duration: float | None
    rate: float | None
    expected: int | None
    fps: float | None
    positions: tuple[int, ...] | None


def judge(tally: DecodeTally, *, duration: float | None, rate: float | None) -> Verdict:
    """Say whether a video is whole.

    Decoders pass over much damage in silence, so the times of the frames count as evidence too: they must reach
    the end, and there must be as many as the rate promises, unless the rate varies.

    Args:
        tally: of decoding the whole file.
        duration: seconds from the first frame to the end of the last, as the header has it; None if unknown.
        rate: frames a second, as the header has it; None if unknown.
    """
    expected = math.floor(duration * rate + 0.01) if duration and rate else None
    times = sorted(tally.times)
    steps = [later - earlier for earlier, later in pairwise(times)]
    usual = median(steps) if steps else (1.0 / rate if rate else 0.0)
    irregular = sum(abs(step - usual) > _IRREGULAR_STEP * usual for step in steps)
    varies = irregular > _IRREGULAR_SHARE * len(steps)
    longest = max(steps, default=usual) if varies else usual

    covered = times[-1] - times[0] + (tally.last_shown or usual) if times else None
    ends_early = duration is not None and covered is not None and duration - covered > 1.5 * longest
    too_few = expected is not None and not varies and expected - tally.frames > max(1.0, _MISSING_SHARE * expected)
    sound = tally.frames > 0 and not (tally.errors or tally.patched or ends_early or too_few)
    return Verdict(
        sound=sound,
        duration=duration,
        rate=rate,
        fps=(len(steps) / (times[-1] - times[0])) if varies else rate,
        expected=None if expected is None else max(expected, 1),
        positions=None if sound else _positions(times, tally, None if varies else rate, ends_early=ends_early),
    )


def _positions(
    times: list[float], tally: DecodeTally, rate: float | None, *, ends_early: bool
) -> tuple[int, ...] | None:
    """Places by the rate; where it varies or is unknown, among the packets.

    Without an index, reading passes over a damaged stretch in silence, and packets do not count what it held. What
    is left is then placed only where it is the beginning of the video, without a gap.
    """
    if rate:
        places = tuple(round((time - tally.start) * rate) for time in times)
    else:
        place = {time: index for index, time in enumerate(sorted(set(tally.stored)))}
        places = tuple(place.get(time, -1) for time in times)
        if not tally.indexed and not (ends_early and places == tuple(range(len(times)))):
            return None
    rising = all(earlier < later for earlier, later in pairwise(places))
    return places if places and rising and len(places) == tally.frames and places[0] >= 0 else None


def describe(tally: DecodeTally, verdict: Verdict) -> str:
    """Say how much of a damaged video is left.

    Args:
        tally: of decoding the whole file.
        verdict: on that tally.
    """
    patched = f", {tally.patched} of them damaged" if tally.patched else ""
    if verdict.expected is None:
        return f"{tally.frames} frames decode{patched} (the file names no duration to compare with)"
    promise = f"{verdict.duration:.4g} s x {verdict.rate:.4g} frames a second"
    return f"{tally.frames} of {verdict.expected} frames decode{patched} ({promise})"
