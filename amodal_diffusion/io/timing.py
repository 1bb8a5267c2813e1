"""Frame times of a clip, at a constant or variable rate, and detection of truncated or damaged videos."""

from __future__ import annotations

import math
from bisect import bisect_left
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
        shifts: seconds by which the times of each later piece of a joined file are shifted; see :func:`joined_ticks`.
    """

    ticks: Sequence[int]
    unit: Fraction
    rate: Fraction
    start: Fraction = Fraction(0)
    shifts: tuple[Fraction, ...] = ()

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


def joined_ticks(
    ticks: Sequence[int | None], *, longest: float = math.inf, step: float = 0.0
) -> tuple[list[int | None], list[int]]:
    """Times of frames in the order in which they are shown, of a file that pieces of recordings were joined to.

    Where times jump back by more than two frames, as they do where the next piece begins or a counter starts anew, or
    forward by more than ``longest``, the frames go on at the usual distance.

    Args:
        ticks: as the file has them; None for a frame without a time.
        longest: the longest pause, in ticks, that is no join.
        step: distance of two frames, in ticks, where the times do not tell.

    Returns:
        times without the jumps, and the ticks by which the times of each piece but the first are shifted.
    """
    usual = _usual_step(ticks) or step
    mended: list[int | None] = []
    shifts: list[int] = []
    last: tuple[int, int] | None = None  # place and time of the last frame with a time
    shift = 0
    for place, tick in enumerate(ticks):
        if tick is None:
            mended.append(None)
            continue
        if last is not None and usual:
            due = last[1] + round((place - last[0]) * usual)
            if not due - 3 * usual <= tick + shift <= due + max(longest, usual):
                shift = due - tick
                shifts.append(shift)
        last = place, tick + shift
        mended.append(tick + shift)
    return mended, shifts


def filled_ticks(ticks: Sequence[int | None], *, step: float = 0.0) -> list[int]:
    """Times with those that a file leaves out put in, at the usual distance from the frame before.

    Args:
        ticks: None for a frame without a time.
        step: distance of two frames, in ticks, where the times do not tell.

    Returns:
        a time for each frame; none at all if the file has none, or neither it nor ``step`` tells a distance.
    """
    usual = _usual_step(ticks) or step
    known = [(place, tick) for place, tick in enumerate(ticks) if tick is not None]
    if not usual or not known:
        return []
    index, tick = known[0]
    filled = []
    for place, here in enumerate(ticks):
        if here is not None:
            index, tick = place, here
        filled.append(round(tick + (place - index) * usual))
    return filled


def _usual_step(ticks: Sequence[int | None]) -> float:
    """Median distance of two frames; 0 if fewer than two have a time."""
    known = [(place, tick) for place, tick in enumerate(ticks) if tick is not None]
    steps = [(end - start) / (second - first) for (first, start), (second, end) in pairwise(known) if end > start]
    return median(steps) if steps else 0.0


def _as_fraction(fps: float) -> Fraction:
    """Nearest rate with a denominator of at most 1001, such as 30000/1001."""
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))


# Tolerated share of missing frames: headers round rates and durations, and phones drop frames.
_MISSING_SHARE = 0.02
# The frame rate is variable if more than _IRREGULAR_SHARE of the frame intervals differ from the median by more than
# _IRREGULAR_STEP times the median. Rounding to milliseconds at 120 frames per second stays below that.
_IRREGULAR_SHARE, _IRREGULAR_STEP = 0.1, 0.3
# Bytes between two packets that hold a lost part of the video: more than _HEADERS, and than what usually stands there,
# _OVERHEAD times and again for each missing frame (AVI, for one, has an empty chunk for each frame that was dropped).
_HEADERS, _OVERHEAD = 64, 3
# Where a file stores no decoding times, those that FFmpeg makes up show a pause up to so many packets late.
_REORDERED = 16


@dataclass(frozen=True)
class Span:
    """What a file holds from one video packet to a later one.

    Attributes:
        seconds: by which decoding time goes on.
        packets: number of video packets, without the last.
        unread: bytes that belong to no packet of any stream; 0 where a container is filled up with such bytes.
    """

    seconds: float
    packets: int
    unread: int


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
        constant: whether the container has one rate, so that no frame can have been left out when it was recorded.
        entire: whether the file is known to be as long as it was written; its last frame may then be shown for long.
        packets: number of packets of all streams.
        end: number of bytes up to the end of the last packet.
        corrupt: number of packets that the demuxer marks as incomplete.
        spans: what lies between the packets, in the order of the file.
    """

    frames: int = 0
    errors: int = 0
    patched: int = 0
    times: list[float] = field(default_factory=list)
    last_shown: float = 0.0
    start: float = 0.0
    stored: list[float] = field(default_factory=list)
    indexed: bool = False
    constant: bool = False
    entire: bool = False
    packets: int = 0
    end: int = 0
    corrupt: int = 0
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """Whether a video is complete, as judged from its decoding statistics.

    Attributes:
        sound: whether no frame is missing or damaged.
        duration: duration in the header, in seconds; None if unknown.
        rate: frames per second in the header, or of the times if the header is wrong; None if unknown or varying.
        expected: expected number of frames, duration x rate; None if one of them is unknown.
        covered: seconds from the first decoded frame to the end of the last; None if unknown.
        fps: frames per second: the rate in the header, or the average of the times if the rate varies.
        positions: for a damaged video, the index of each decoded frame in the undamaged video; None if unknown.
    """

    sound: bool
    duration: float | None
    rate: float | None
    expected: int | None
    covered: float | None
    fps: float | None
    positions: tuple[int, ...] | None


def judge(tally: DecodeTally, *, duration: float | None, rate: float | None) -> Verdict:
    """Decide whether a video is complete and undamaged.

    Decoders skip much damage silently, so the frame times are checked too. The last frame must reach the duration in
    the header, and the number of frames must match duration x rate. Frames that are missing between others are damage
    only if something is left of them, such as packets that do not decode: else they were never recorded, as by programs
    that record a screen, and the rate varies.

    Args:
        tally: statistics of decoding the whole file.
        duration: seconds from the first frame to the end of the last, from the header; None if unknown.
        rate: frames per second, from the header; None if unknown.
    """
    times = sorted(tally.times)
    steps = [later - earlier for earlier, later in pairwise(times)]
    usual = median(steps) if steps else tally.last_shown or (1.0 / rate if rate else 0.0)
    irregular = sum(abs(step - usual) > _IRREGULAR_STEP * usual for step in steps)
    average = len(steps) / (times[-1] - times[0]) if steps and times[-1] > times[0] else None
    if rate and usual and abs(rate * usual - 1.0) > _IRREGULAR_STEP:  # a nominal rate, such as the ticks a second
        rate = average if average and not irregular else 1.0 / usual
    skipped = sum(round(step / usual) - 1 for step in steps if step > 1.5 * usual) if usual else 0
    gaps = skipped > _tolerated(len(times) + skipped)
    lost = not times or _lost_some(tally, usual, skipped)
    dropped = gaps and not lost
    varies = irregular > _IRREGULAR_SHARE * len(steps) or dropped

    expected = math.floor(duration * rate + 0.01) if duration and rate and not varies else None
    longest = max(steps, default=usual) if irregular > _IRREGULAR_SHARE * len(steps) else usual
    covered = times[-1] - min(times[0], tally.start) + (tally.last_shown or usual) if times else None
    short = duration is not None and covered is not None and duration - covered > 1.5 * longest
    ends_early = short and not tally.entire
    too_few = expected is not None and expected - tally.frames > _tolerated(expected) and (lost or ends_early)
    damaged = tally.errors or tally.patched or ends_early or too_few or (gaps and lost)
    sound = tally.frames > 0 and not damaged
    return Verdict(
        sound=sound,
        duration=duration,
        rate=None if varies else rate,
        fps=average if varies else rate,
        covered=covered,
        expected=None if expected is None else max(expected, 1),
        positions=None if sound else _positions(times, tally, None if varies else rate, ends_early=ends_early),
    )


def _tolerated(frames: int) -> float:
    """Number of frames that may be missing without a word."""
    return max(1.0, _MISSING_SHARE * frames)


def _lost_some(tally: DecodeTally, usual: float, skipped: int) -> bool:
    """Whether something is left of ``skipped`` frames that are missing.

    This may be packets without a frame, bytes that are in no packet, or decoding times without a pause.
    """
    if tally.errors or tally.patched or tally.corrupt or tally.constant:
        return True
    shown = sorted(tally.times)
    for time in tally.stored:
        place = bisect_left(shown, time)
        if all(abs(time - near) > 0.75 * usual for near in shown[max(place - 1, 0) : place + 1]):
            return True
    spans = [span for span in tally.spans if span.seconds > 0]
    if not spans:
        return False
    step = median(span.seconds / span.packets for span in spans)
    between = max(0.0, median(span.unread / span.packets for span in spans))
    missing = [max(0.0, span.seconds / step - span.packets) for span in spans]
    each = 2 * len(spans) > tally.frames  # else packets share a place in the file, as in MPEG program streams
    reach = _REORDERED if each else 0
    for index, span in enumerate(spans):
        near = sum(missing[max(index - reach, 0) : index + reach + 1])
        if near > 0.5 and span.unread > _HEADERS + between * (_OVERHEAD + span.packets + near):
            return True
    return each and sum(missing) < 0.25 * skipped


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
    found = f"{tally.frames} frames decode" + (f", {tally.patched} of them damaged" if tally.patched else "")
    if verdict.expected is not None:
        promise = f"{verdict.duration:.4g} s x {verdict.rate:.4g} frames a second"
        return f"{found.replace(' ', f' of {verdict.expected} ', 1)} ({promise})"
    if verdict.duration is None:
        return f"{found} (the file names no duration to compare with)"
    return f"{found}, which last {verdict.covered or 0.0:.4g} of {verdict.duration:.4g} s"
