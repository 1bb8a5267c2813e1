"""Takes a share of a benchmark's tracks through the methods, one at a time, each kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amodal_diffusion.evaluation.benchmark import Benchmark
from amodal_diffusion.evaluation.results import FOLDER, SkippedTrack, TrackResult, TrackStore
from amodal_diffusion.evaluation.scoring import TrackScorer
from amodal_diffusion.types import InputError
from amodal_diffusion.video.outdir import OutputFolder

STOP = f"{FOLDER}/stop"
"""A file by which a process that cannot go on stops the others."""
BadTrack = Literal["stop", "skip"]


@dataclass(frozen=True)
class Run:
    """What is scored, with what, and where it is kept.

    Attributes:
        benchmark: its tracks.
        scorer: the methods.
        folder: of the run, shared by its processes.
        on_bad_track: whether a track that cannot be read or completed ends the run or is left out.
    """

    benchmark: Benchmark
    scorer: TrackScorer
    folder: Path
    on_bad_track: BadTrack = "stop"

    @property
    def store(self) -> TrackStore:
        """Where finished tracks are."""
        return TrackStore(self.folder, len(self.benchmark))

    def begin(self, folder: OutputFolder) -> list[int]:
        """Make room for the tracks, in one process before any scores.

        Args:
            folder: open; its work is in `Run.folder`.

        Returns:
            places of the tracks that are still to do.
        """
        work = folder.pieces(FOLDER, [*TrackStore.files(len(self.benchmark)), STOP])
        (work / STOP).unlink(missing_ok=True)
        return self.store.missing(keep_skipped=self.on_bad_track == "skip")

    def score(self, indices: Iterable[int]) -> None:
        """Score tracks, until another process cannot go on.

        Args:
            indices: places in the benchmark.

        Raises:
            InputError: at a bad track, if those are not left out; names it.
        """
        store, stop = self.store, self.folder / STOP
        for index in indices:
            if stop.exists():
                return
            try:
                store.write(self._track(index))
            except (InputError, OSError):
                stop.touch()
                raise

    def _track(self, index: int) -> TrackResult | SkippedTrack:
        identity = self.benchmark.identity(index)
        try:
            track = self.benchmark.track(index)
        except InputError as error:
            return self._bad(index, identity, error)
        self.scorer.check(track)
        try:
            return self.scorer.score(track, index)
        except InputError as error:
            return self._bad(index, identity, error)

    def _bad(self, index: int, identity: str, error: InputError) -> SkippedTrack:
        if self.on_bad_track == "stop":
            raise InputError(
                f"track {identity}: {error}; mend it, or leave such tracks out with --on-bad-track skip"
            ) from error
        return SkippedTrack(index, identity, str(error))
