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

_PASS = 1.3  # seconds of a network pass of the bundled model with its encoding and decoding
_PAINT, _WRITE = 0.25, 0.10  # seconds per million pixels of a candidate frame: colors; of any frame: its files
_PER_FRAME: Mapping[Part, float] = {"read": 0.07, "overlay": 0.08}  # seconds per million pixels of a frame of the clip
_PER_OBJECT: Mapping[Part, float] = {"order": 0.07, "page": 0.02}  # of a frame of each object
_FORMATS = {
    "png": 0.0,
    "coco": 0.01,
    "youtube-vis": 0.01,
    "davis": 0.02,
    "masks-mp4": 0.04,
    "prores": 0.10,
    "webm": 0.35,
}
_OTHER_FORMAT = 0.10
_START = 0.3  # seconds of any completion beside its frames
# The figures above were measured on one core of a CPU. Other machines differ; the shares matter, not the seconds.

_TRUST = 0.1  # share of the plan after which the speed of the work counts as much as the speed that was expected
_SLOWEST, _FASTEST = 30.0, 1 / 30
_NEAR = 0.9  # share of an open part that passing time alone may count as done


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
        frames, tracks = self.frames * self.pixels / 1e6, self.frames * self.objects
        share = 1.0 if candidates is None else candidates / max(tracks, 1)
        cost: dict[Part, float] = {part: rate * frames for part, rate in _PER_FRAME.items()}
        cost |= {part: rate * frames * self.objects for part, rate in _PER_OBJECT.items()}
        cost["read"] += _START
        cost["objects"] = share * self.passes * _PASS + frames * self.objects * (share * _PAINT + _WRITE)
        cost["formats"] = frames * self.objects * sum(_FORMATS.get(name, _OTHER_FORMAT) for name in self.formats)
        return cost


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


class Progress:
    """Share done and seconds left of one completion; one thread notes events, another reads.

    Args:
        work: the amount of work.
        speeds: of earlier completions, to which this one adds its own.
        clock: the time in seconds, from any start.
    """

    def __init__(self, work: Work, speeds: Speeds, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._work, self._speeds, self._clock = work, speeds, clock
        self._plan = work.seconds()
        self._done: dict[Part, float] = dict.fromkeys(PARTS, 0.0)  # expected seconds
        self._passes, self._frames, self._candidates = 0, 0, work.frames * work.objects
        self._part: Part = "read"
        self._start = self._part_start = self._event = clock()
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
            speed = self._speeds.factors.get(part, 1.0)
            open_part = (self._plan[part] - self._done[part]) * speed
            waited = (now - self._event) / self._factor(self._event - self._start, 0.0)
            waited = min(waited, _NEAR * open_part)
            later = sum(self._expected(other) for other in PARTS[PARTS.index(part) + 1 :])
            left = (open_part - waited + later) * self._factor(now - self._start, waited)
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
        self._part, self._part_start = part or PARTS[-1], now

    def _objects_done(self) -> float:
        """Expected seconds of what is done of the objects; frames that are written need no pass any more."""
        frames = self._work.frames * self._work.objects
        written = self._frames / max(frames, 1)
        share = self._candidates / max(frames, 1)
        passes = max(min(self._passes, share * self._work.passes), written * share * self._work.passes)
        pixels = self._work.pixels / 1e6
        return passes * _PASS + self._frames * pixels * (share * _PAINT + _WRITE)

    def _expected(self, part: Part) -> float:
        return self._plan[part] * self._speeds.factors.get(part, 1.0)

    def _factor(self, elapsed: float, waited: float) -> float:
        """How many times as long as expected the work takes so far.

        Args:
            elapsed: seconds since the start.
            waited: expected seconds of what was probably done since the last event.
        """
        trust = _TRUST * sum(self._expected(part) for part in PARTS)
        done = sum(self._done[part] * self._speeds.factors.get(part, 1.0) for part in PARTS) + waited
        return min(max((elapsed + trust) / (done + trust), _FASTEST), _SLOWEST)
