"""Predicts and scores one track with every method."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

import numpy as np

from amodal_diffusion.evaluation.benchmarks.base import Benchmark, BoxTarget, MaskTarget, Target
from amodal_diffusion.evaluation.methods import Method, check_depth
from amodal_diffusion.evaluation.results import FOLDER, MethodResult, ResultStore, Sample, SkippedTarget, TargetResult
from amodal_diffusion.evaluation.scores import (
    BoxScores,
    ContentScorer,
    ContentScores,
    MaskScores,
    score_boxes,
    score_masks,
)
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.metrics import Calibration, Values, probability_map
from amodal_diffusion.types import BoolArray, InputError


class Scorer:
    """Methods, how often each predicts, and what of it is scored."""

    def __init__(
        self, methods: Sequence[Method], *, top_k: int = 1, content: ContentScorer | None = None, process: int = 0
    ) -> None:
        """Take them.

        Args:
            methods: what to score.
            top_k: predictions of a method that has learned; the others give one.
            content: scores painting, too.
            process: number of this process, for the record.
        """
        self.methods, self._top_k, self._content, self._process = methods, top_k, content, process

    def check(self, track: Target) -> None:
        """Refuse a track that some method cannot be given because of the benchmark, whatever is in the track.

        Raises:
            InputError: if a method needs depth and there is none.
        """
        check_depth(self.methods, track)

    def score(self, track: Target, index: int) -> TargetResult:
        """Predict and score.

        Args:
            track: with its truth.
            index: its place in the benchmark.

        Raises:
            InputError: if a method cannot complete it.
        """
        return TargetResult(
            index=index,
            identity=track.identity,
            occlusion=occlusion_of(track) if isinstance(track, MaskTarget) else None,
            methods={method.name: self._score(method, track) for method in self.methods},
            true_features=self._true_features(track),
            process=self._process,
        )

    def _score(self, method: Method, track: Target) -> MethodResult:
        count = self._top_k if method.learned else 1
        started = time.perf_counter()
        masks = [method.predict(track, sample=sample) | track.clip.modal_mask for sample in range(count)]
        seconds = (time.perf_counter() - started) / count
        content, features = self._paint(method, track)
        return MethodResult(
            samples=tuple(Sample(_scores(mask, track), tuple(map(encode_rle, mask))) for mask in masks),
            calibration=_calibration(masks, track),
            content=content,
            features=features,
            seconds=seconds,
        )

    def _paint(self, method: Method, track: Target) -> tuple[ContentScores | None, Values | None]:
        if self._content is None or not _has_hidden_colors(track):
            return None, None
        painted = method.paint(track)
        return self._content.score(track, painted), self._content.features(track, painted)

    def _true_features(self, track: Target) -> Values | None:
        if self._content is None or not _has_hidden_colors(track) or track.amodal_rgb is None:
            return None
        return self._content.features(track, track.amodal_rgb)


def occlusion_of(track: MaskTarget) -> Values:
    """Share of the object that is hidden in each frame, float64 ``[F]``; NaN where it is not in the frame."""
    area = track.amodal_mask.sum(axis=(1, 2)).astype(np.float64)
    hidden = (track.amodal_mask & ~track.clip.modal_mask).sum(axis=(1, 2)).astype(np.float64)
    share = np.full(len(area), np.nan)
    np.divide(hidden, area, out=share, where=area > 0)
    return share


def _has_hidden_colors(track: Target) -> TypeGuard[MaskTarget]:
    """Whether something is hidden whose true colors are known."""
    if not isinstance(track, MaskTarget) or track.amodal_rgb is None:
        return False
    return bool((track.amodal_mask & ~track.clip.modal_mask).any())


def _scores(mask: BoolArray, track: Target) -> MaskScores | BoxScores:
    if isinstance(track, MaskTarget):
        return score_masks(mask, track.clip.modal_mask, track.amodal_mask)
    if isinstance(track, BoxTarget):
        return score_boxes(mask, track.clip.modal_mask, track.amodal_boxes)
    raise RuntimeError(f"{track.identity}: a track without its truth")


def _calibration(masks: Sequence[BoolArray], track: Target) -> Values | None:
    if len(masks) < 2 or not isinstance(track, MaskTarget):
        return None
    gathered = Calibration()
    gathered.add(probability_map(masks), track.amodal_mask, ~track.clip.modal_mask)
    return gathered.sums()


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
    scorer: Scorer
    folder: Path
    on_bad_track: BadTrack = "stop"

    @property
    def store(self) -> ResultStore:
        """Where finished tracks are."""
        return ResultStore(self.folder, len(self.benchmark))

    def begin(self, folder: OutputFolder) -> list[int]:
        """Make room for the tracks, in one process before any scores.

        Args:
            folder: open; its work is in `Run.folder`.

        Returns:
            places of the tracks that are still to do.
        """
        work = folder.pieces(FOLDER, [*ResultStore.files(len(self.benchmark)), STOP])
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

    def _track(self, index: int) -> TargetResult | SkippedTarget:
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

    def _bad(self, index: int, identity: str, error: InputError) -> SkippedTarget:
        if self.on_bad_track == "stop":
            raise InputError(
                f"track {identity}: {error}; mend it, or leave such tracks out with --on-bad-track skip"
            ) from error
        return SkippedTarget(index, identity, str(error))
