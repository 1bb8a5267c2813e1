"""Time left of a completion: what it costs by a plan, corrected by how fast the work goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Part = Literal["read", "objects", "overlay", "order", "formats", "page"]
PARTS: tuple[Part, ...] = ("read", "objects", "overlay", "order", "formats", "page")
"""Parts of a completion in the order of the work."""

# Seconds on one core of a CPU. Other machines differ: the shares matter, and the work itself tells the speed.
_PASS = 1.4  # of a network pass of the bundled model, with its encoding and decoding
_PAINT, _WRITE = 0.25, 0.10  # per million pixels of a candidate frame: colors; of any frame: its files
_PER_FRAME: Mapping[Part, tuple[float, float]] = {"read": (0.025, 0.02), "overlay": (0.0, 0.1)}
"""Seconds per frame of the clip, and more per million pixels."""
_PER_OBJECT: Mapping[Part, tuple[float, float]] = {"order": (0.012, 0.08), "page": (0.001, 0.001)}
"""Likewise, for each object."""
_FORMATS = {"png": (0.0, 0.0), "coco": (0.001, 0.01), "prores": (0.01, 0.1), "webm": (0.017, 0.22)}
_OTHER_FORMAT = (0.01, 0.1)
_START = 0.2  # of any completion beside its frames

_TRUST = 0.12  # share of the plan after which the speed of the work counts as much as the speed that was expected
_SLOWEST, _FASTEST = 30.0, 1 / 30
_BEGUN = 0.5  # share of a pass that is over when the network begins: the encoding
_DECODED = 0.3  # share of the passes' cost that ends only with the frames: the decoding
# Time to the next event when it is late, as a share of the time since the last one: of objects, and of files.
_OVERRUN, _STEADY_OVERRUN = 0.3, 0.15


@dataclass(frozen=True)
class Work:
    """Amount of work of a completion.

    Attributes:
        frames: number of frames of the clip.
        objects: number of objects.
        pixels: pixels of a frame, with its margin.
        passes: most network passes of all objects.
        formats: formats that are written.
    """

    frames: int
    objects: int
    pixels: int
    passes: int
    formats: tuple[str, ...] = ()

    def seconds(self, candidates: int | None = None) -> dict[Part, float]:
        """Expected seconds of each part.

        Args:
            candidates: frames in which an object may be occluded, over all objects; None for all.
        """
        share = 1.0 if candidates is None else candidates / max(self.frames * self.objects, 1)
        each = self.frames * self.objects
        cost: dict[Part, float] = {part: self.frames * self._of_frame(rates) for part, rates in _PER_FRAME.items()}
        cost |= {part: each * self._of_frame(rates) for part, rates in _PER_OBJECT.items()}
        cost["read"] += _START
        cost["objects"] = share * self.passes * _PASS + each * self._of_frame((0.0, share * _PAINT + _WRITE))
        cost["formats"] = each * sum(self._of_frame(_FORMATS.get(name, _OTHER_FORMAT)) for name in self.formats)
        return cost

    def _of_frame(self, rates: tuple[float, float]) -> float:
        return rates[0] + rates[1] * self.pixels / 1e6


@dataclass
class Speeds:
    """How many times as long as expected each part took in earlier completions of this process."""

    factors: dict[Part, float] = field(default_factory=dict)

    def learn(self, part: Part, factor: float) -> None:
        """Count a finished part.

        Args:
            part: the part.
            factor: its seconds over the expected ones.
        """
        self.factors[part] = (self.factors.get(part, factor) * min(max(factor, _FASTEST), _SLOWEST)) ** 0.5


class Steady:
    """Share done and seconds left of work whose steps take about the same time, such as frames.

    Args:
        clock: the time in seconds, from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start, self._share = clock, clock(), 0.0

    def note(self, share: float) -> None:
        """Note how much is done.

        Args:
            share: from 0 to 1.
        """
        self._share = max(self._share, min(share, 1.0))

    def look(self) -> tuple[float, float | None]:
        """Share done, and seconds left; None before anything is done."""
        share = self._share
        return share, (self._clock() - self._start) * (1 - share) / share if share else None


class Progress:
    """Share done and seconds left of one completion; one thread notes events, another reads.

    Args:
        work: the amount of work.
        speeds: of earlier completions, to which this one adds its own.
        clock: the time in seconds, from any start.
    """

    def __init__(self, work: Work, speeds: Speeds, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._work, self._speeds, self._clock = work, speeds, clock
        self._expected = dict(speeds.factors)  # as they were when the work began
        self._plan = work.seconds()
        self._done: dict[Part, float] = dict.fromkeys(PARTS, 0.0)  # expected seconds
        self._passes, self._frames, self._candidates = -_BEGUN, 0, work.frames * work.objects
        self._part: Part = "read"
        self._start = self._part_start = self._objects_start = self._event = clock()
        self._shown = 0.0
        self._lock = threading.Lock()

    def note(self, step: str, done: int, total: int) -> None:
        """Note an event of the work.

        Args:
            step: ``pass`` for a network pass that begins, ``page`` for what follows the files, or a step of
                `complete_clip`.
            done: how much of it is done.
            total: how much there is.
        """
        with self._lock:
            self._event = self._clock()
            if step == "candidates":
                self._candidates = done
                self._plan = self._work.seconds(done)
            part: Part = "objects" if step in ("candidates", "pass", "frames") else step  # type: ignore[assignment]
            self._enter(part)
            if step == "pass":
                self._passes = done
            elif step == "frames":
                self._frames = done
            self._done[part] = self._objects_done() if part == "objects" else self._plan[part] * done / max(total, 1)

    def finish(self) -> None:
        """Note the end of the work."""
        with self._lock:
            self._enter(None)

    def look(self) -> tuple[float, float]:
        """Share done, 0 to 1 and never falling, and seconds left."""
        with self._lock:
            now, part = self._clock(), self._part
            waited, gap = now - self._event, self._gap()
            factor = self._factor(self._event, 0.0)
            if waited > gap * factor:  # the next event is late
                factor = max(factor, self._factor(now, gap))
            late = (_OVERRUN if part == "objects" else _STEADY_OVERRUN) * waited
            inside = max(self._left(part) - gap, 0.0) * factor + max(gap * factor - waited, late)
            left = inside + factor * sum(self._left(other) for other in PARTS[PARTS.index(part) + 1 :])
            self._shown = max(self._shown, (now - self._start) / max(now - self._start + left, 1e-9))
            return min(self._shown, 1.0), left

    def _enter(self, part: Part | None) -> None:
        """Close the parts before one, and learn how long the open one took."""
        if part == self._part:
            return
        now = self._clock()
        if self._plan[self._part] > 0:
            self._speeds.learn(self._part, (now - self._part_start) / self._plan[self._part])
        for earlier in PARTS if part is None else PARTS[: PARTS.index(part)]:
            self._done[earlier] = self._plan[earlier]
        if self._part == "read":
            self._objects_start = now
        self._part, self._part_start = part or PARTS[-1], now

    def _objects_done(self) -> float:
        """Expected seconds of what is done of the objects; frames that are written need no pass any more."""
        frames = self._work.frames * self._work.objects
        written = self._frames / max(frames, 1)
        share = self._candidates / max(frames, 1)
        whole = share * self._work.passes
        begun = min(self._passes + _BEGUN, whole)
        passes = max((1 - _DECODED) * begun + _DECODED * written * whole, written * whole)
        if self._frames and begun > whole - 1:  # the last frames are decoded before the first is written
            passes = whole
        pixels = self._work.pixels / 1e6
        return passes * _PASS + self._frames * pixels * (share * _PAINT + _WRITE)

    def _speed(self, part: Part) -> float:
        return self._expected.get(part, 1.0)

    def _left(self, part: Part) -> float:
        """Expected seconds of what is left of a part."""
        return (self._plan[part] - self._done[part]) * self._speed(part)

    def _gap(self) -> float:
        """Expected seconds from the last event to the next one."""
        if self._part == "objects" and self._passes + 1 < self._work.passes and not self._frames:
            return min(_PASS * self._speed("objects"), self._left("objects"))
        return self._left(self._part)

    def _factor(self, until: float, waited: float) -> float:
        """How many times as long as expected the work took; reading does not count, as other things decide its speed.

        Args:
            until: end of the time that counts, on the clock.
            waited: expected seconds of what was done after the last event.
        """
        first = PARTS.index("objects") if self._part != "read" else 0
        trust = _TRUST * sum(self._plan[part] * self._speed(part) for part in PARTS)
        done = sum(self._done[part] * self._speed(part) for part in PARTS[first:]) + waited
        begun = self._start if self._part == "read" else self._objects_start
        return min(max((until - begun + trust) / (done + trust), _FASTEST), _SLOWEST)
