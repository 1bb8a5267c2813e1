"""Frame times of a clip, at a constant or variable rate, and detection of truncated or damaged videos."""

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
    """Presentation times of the frames of a clip.

    Attributes:
        ticks: presentation time of each frame, in units of ``unit`` after the first frame: 0, then increasing.
        unit: length of a tick in seconds.
        rate: frames per second; the average if the rate varies.
        start: presentation time of the first frame in the file, in seconds; used to synchronize the audio.
    """

    ticks: Sequence[int]
    unit: Fraction
    rate: Fraction
    start: Fraction = Fraction(0)

    @classmethod
    def steady(cls, num_frames: int, fps: float, *, start: Fraction = Fraction(0)) -> Self:
        """Timing at a constant frame rate.

        Args:
            num_frames: number of frames.
            fps: frames per second, above 0.
            start: presentation time of the first frame in the file, in seconds.
        """
        rate = _as_fraction(fps)
        return cls(range(num_frames), 1 / rate, rate, start)

    @classmethod
    def stored(cls, times: Sequence[int], unit: Fraction, fps: float) -> Self | None:
        """Timing from the presentation times that a file stores.

        Args:
            times: presentation time of each frame, in units of ``unit``.
            unit: length of a tick in seconds.
            fps: average number of frames per second.

        Returns:
            a constant rate if the times fit one to within a tick; None if the times do not increase.
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
        """Presentation time of the frame at ``index``, in seconds after the first frame."""
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
    """Nearest rate with a denominator of at most 1001, such as 30000/1001."""
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))


# Tolerated share of missing frames: headers round rates and durations, and phones drop frames.
_MISSING_SHARE = 0.02
# The frame rate is variable if more than _IRREGULAR_SHARE of the frame intervals differ from the median by more than
# _IRREGULAR_STEP times the median. Rounding to milliseconds at 120 frames per second stays below that.
_IRREGULAR_SHARE, _IRREGULAR_STEP = 0.1, 0.3


@dataclass
class DecodeTally:
    """Statistics of decoding a video.

    Attributes:
        frames: number of decoded frames.
        errors: number of errors of the decoder and the demuxer.
        patched: number of frames that the decoder marks as damaged and concealed.
        times: presentation times in seconds, of the decoded frames that have one.
        last_shown: duration of the last frame in seconds; 0 if unknown.
        start: presentation time in seconds of the first frame of the undamaged video.
        stored: presentation times in seconds of all packets that were read, whether or not they decode.
        indexed: whether the file has an index of all packets, so that the demuxer skips none.
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
    """Whether a video is complete, as judged from its decoding statistics.

    Attributes:
        sound: whether no frame is missing or damaged.
        duration: duration in the header, in seconds; None if unknown.
        rate: frames per second in the header; None if unknown.
        expected: expected number of frames, duration x rate; None if one of them is unknown.
        fps: frames per second: the rate in the header, or the average of the times if the rate varies.
        positions: for a damaged video, the index of each decoded frame in the undamaged video; None if unknown.
    """

    sound: bool
    duration: float | None
    rate: float | None
    expected: int | None
    fps: float | None
    positions: tuple[int, ...] | None


def judge(tally: DecodeTally, *, duration: float | None, rate: float | None) -> Verdict:
    """Decide whether a video is complete and undamaged.

    Decoders skip much damage silently, so the frame times are checked too. The last frame must reach the duration in
    the header. Unless the rate varies, the number of frames must match duration x rate.

    Args:
        tally: statistics of decoding the whole file.
        duration: seconds from the first frame to the end of the last, from the header; None if unknown.
        rate: frames per second, from the header; None if unknown.
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
    """Index of each decoded frame in the undamaged video, from the rate, or from the packets if the rate varies.

    Without an index, the demuxer silently skips damaged parts, so that packets cannot be counted. The indices are then
    known only if the frames are the beginning of the video, without a gap.
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
    """Describe how many frames of a damaged video decode.

    Args:
        tally: statistics of decoding the whole file.
        verdict: result of :func:`judge` for ``tally``.
    """
    patched = f", {tally.patched} of them damaged" if tally.patched else ""
    if verdict.expected is None:
        return f"{tally.frames} frames decode{patched} (the file names no duration to compare with)"
    promise = f"{verdict.duration:.4g} s x {verdict.rate:.4g} frames a second"
    return f"{tally.frames} of {verdict.expected} frames decode{patched} ({promise})"
