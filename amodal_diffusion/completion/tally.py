"""The outcome of a batch so far: counts, failures, and when there are too many of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.clip_work import ClipRecord
from amodal_diffusion.io.storage import join, remove, write_bytes
from amodal_diffusion.io.urls import Location

FAILURES = "failures.json"
IN_A_ROW = 100
"""So many failures without a success between them have one cause, and the run stops."""
_NUMBERS_AND_PATHS = re.compile(r"\S*[/\\]\S*|\d+")


class StoppedError(InputError):
    """A run that stopped as too many clips failed."""


class Tally:
    """Counts of one process.

    Attributes:
        failures: records of the clips that failed.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.failures: list[ClipRecord] = []
        self._counts: Counter[str] = Counter()
        self._in_a_row = 0

    def add(self, record: ClipRecord) -> None:
        """Count a clip.

        Args:
            record: of a clip that has ended.
        """
        if record.status == "failed":
            self.failures.append(record)
        self._count(record)

    def _count(self, record: ClipRecord) -> None:
        self._counts += Counter({record.status: 1, "frames": record.frames})
        self._in_a_row = self._in_a_row + 1 if record.status == "failed" else 0

    def count(self, what: str) -> int:
        """Number of clips with a status, or of ``frames``; of all processes that share a tally."""
        return self._counts[what]

    @property
    def done(self) -> int:
        """Number of clips that have ended."""
        return sum(self.count(status) for status in ("completed", "finished before", "failed"))

    @property
    def in_a_row(self) -> int:
        """Number of failures since the last success."""
        return self._in_a_row

    def check(self, most: int | None) -> None:
        """Check that the run may go on.

        Args:
            most: failures that are accepted; None for any number.

        Raises:
            StoppedError: says how many clips failed and the most frequent reason.
        """
        failed = self.count("failed")
        if self.in_a_row >= IN_A_ROW:
            what = f"{self.in_a_row} clips in a row failed"
        elif most is not None and failed > most:
            what = f"{failed} clips failed, and --max-failures is {most}"
        else:
            return
        raise StoppedError(f"stopped: {what}; {_most_frequent(self.failures)}; the same command goes on")


def _most_frequent(failures: Sequence[ClipRecord]) -> str:
    """The most frequent reason, told by one example; paths and numbers do not make another reason."""
    if not failures:
        return "other processes tell why"
    examples: dict[str, str] = {}
    reasons: Counter[str] = Counter()
    for record in failures:
        error = record.error or ""
        kind = _NUMBERS_AND_PATHS.sub("", error.replace(record.clip, "").replace(record.name, ""))
        examples.setdefault(kind, error)
        reasons[kind] += 1
    kind, count = reasons.most_common(1)[0]
    return f"most frequent reason ({count} of {len(failures)}): {examples[kind]}"


def write_failures(failures: Sequence[ClipRecord], out: Location, *, ended: bool) -> Location | None:
    """Write the list of failures; returns the file, or None without a failure.

    Args:
        failures: of all processes.
        out: path or URL of the parent of the result folders.
        ended: whether all clips were tried, so that the list of an earlier run has no meaning any more.

    Raises:
        InputError: if the file cannot be written.
    """
    location = join(out, FAILURES)
    if failures:
        values = [record.failure for record in sorted(failures, key=lambda record: record.name)]
        write_bytes(location, f"{json.dumps(values, indent=2)}\n".encode())
        return location
    if ended:
        remove(location)
    return None
