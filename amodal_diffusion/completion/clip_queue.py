"""The clips of a list in the order in which workers get them, and how often each is tried."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from amodal_diffusion.data.clip_list import ClipEntry
from amodal_diffusion.io.urls import local_path

WINDOW = 10_000
"""Lines of the list that are in memory and in order of length at a time."""
TRIES = 3
"""A clip on which so many workers died is not tried again."""
_PAUSE = 2.0  # seconds before a clip is tried again whose folder another process holds
_PATIENCE = 120.0  # seconds after which such a clip has failed; a process that was killed lets go at once


@dataclass(frozen=True)
class Job:
    """A clip that is to be completed.

    Attributes:
        entry: line of the list.
        deaths: workers that died while they computed it.
        in_use_since: time at which another process was first found to hold its folder; None if none was.
    """

    entry: ClipEntry
    deaths: int = 0
    in_use_since: float | None = None


def windows(entries: Iterable[ClipEntry], size: int = WINDOW) -> Iterator[list[ClipEntry]]:
    """Consecutive parts of a list.

    Args:
        entries: the list.
        size: lines of a part; the last may have fewer.
    """
    lines = iter(entries)
    while window := list(islice(lines, size)):
        yield window


def longest_first(window: Sequence[ClipEntry]) -> list[int]:
    """Places of the clips of a window, the longest clip first, so that no worker begins a long clip at the very end."""
    lengths = [length_of(entry) for entry in window]
    return sorted(range(len(window)), key=lambda place: -lengths[place])


def in_order(entries: Iterable[ClipEntry]) -> Iterator[ClipEntry]:
    """The clips of a list, window by window, the longest first.

    Args:
        entries: the list.
    """
    return (window[place] for window in windows(entries) for place in longest_first(window))


def length_of(entry: ClipEntry) -> int:
    """Frames times objects where the list has the frames, else bytes of the clip's local file, else 1."""
    if entry.frames is not None:
        return entry.frames * (1 if entry.object_name is not None else entry.objects or 1)
    path = local_path(entry.clip)
    try:
        return path.stat().st_size if path is not None and path.is_file() else 1
    except OSError:
        return 1


class ClipQueue:
    """Hands out the clips of a list, and takes back those that must be tried again."""

    def __init__(self, entries: Iterable[ClipEntry]) -> None:
        """Begin; the list is read as clips are taken.

        Args:
            entries: the list.
        """
        self._fresh = in_order(entries)
        self._returned: deque[Job] = deque()
        self._charged: deque[Job] = deque()
        self._held: deque[tuple[float, Job]] = deque()

    @property
    def has_charged(self) -> bool:
        """Whether a clip waits on which a worker has died."""
        return bool(self._charged)

    @property
    def is_empty(self) -> bool:
        """Whether no clip will be handed out, neither now nor when another process lets go of it."""
        if not self._charged and not self._returned and not self._held:
            entry = next(self._fresh, None)
            if entry is None:
                return True
            self._returned.append(Job(entry))
        return False

    def take(self) -> Job | None:
        """The next clip for an idle worker with nothing else to do; None if there is none now."""
        if self._charged:
            return self._charged.popleft()
        if self._is_held_no_longer():
            return self._held.popleft()[1]
        return self.take_second()

    def take_second(self) -> Job | None:
        """The next clip that may wait while a worker computes another one: none on which a worker has died."""
        if self._is_held_no_longer() and not self._held[0][1].deaths:
            return self._held.popleft()[1]
        if self._returned:
            return self._returned.popleft()
        entry = next(self._fresh, None)
        return None if entry is None else Job(entry)

    def _is_held_no_longer(self) -> bool:
        return bool(self._held) and self._held[0][0] <= time.monotonic()

    def give_back(self, job: Job) -> None:
        """Take back a clip whose computation has not begun."""
        (self._charged if job.deaths else self._returned).append(job)

    def charge(self, job: Job) -> bool:
        """Take back a clip whose worker died; False if it has been tried often enough."""
        charged = replace(job, deaths=job.deaths + 1)
        if charged.deaths >= TRIES:
            return False
        self._charged.append(charged)
        return True

    def hold(self, job: Job) -> bool:
        """Take back a clip whose folder another process holds; False if that has lasted too long."""
        now = time.monotonic()
        since = job.in_use_since or now
        if now - since > _PATIENCE:
            return False
        self._held.append((now + _PAUSE, replace(job, in_use_since=since)))
        return True
