"""Predicts and scores one track with every method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from amodal_diffusion.evaluation.benchmark import BenchmarkTrack, BoxTrack, MaskTrack
from amodal_diffusion.evaluation.content import ContentScorer, ContentScores
from amodal_diffusion.evaluation.mask_scores import BoxScores, MaskScores, score_boxes, score_masks
from amodal_diffusion.evaluation.methods import Method, check_depth
from amodal_diffusion.evaluation.results import MethodResult, Sample, TrackResult
from amodal_diffusion.metrics import Calibration, Values, probability_map
from amodal_diffusion.types import BoolArray
from amodal_diffusion.video.masks import encode_rle


class TrackScorer:
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

    def check(self, track: BenchmarkTrack) -> None:
        """Refuse a track that some method cannot be given because of the benchmark, whatever is in the track.

        Raises:
            InputError: if a method needs depth and there is none.
        """
        check_depth(self.methods, track)

    def score(self, track: BenchmarkTrack, index: int) -> TrackResult:
        """Predict and score.

        Args:
            track: with its truth.
            index: its place in the benchmark.

        Raises:
            InputError: if a method cannot complete it.
        """
        return TrackResult(
            index=index,
            identity=track.identity,
            occlusion=occlusion_of(track) if isinstance(track, MaskTrack) else None,
            methods={method.name: self._score(method, track) for method in self.methods},
            true_features=self._true_features(track),
            process=self._process,
        )

    def _score(self, method: Method, track: BenchmarkTrack) -> MethodResult:
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

    def _paint(self, method: Method, track: BenchmarkTrack) -> tuple[ContentScores | None, Values | None]:
        if self._content is None or not _has_hidden_colours(track):
            return None, None
        painted = method.paint(track)
        return self._content.score(track, painted), self._content.features(track, painted)

    def _true_features(self, track: BenchmarkTrack) -> Values | None:
        if self._content is None or not _has_hidden_colours(track) or track.whole_rgb is None:
            return None
        return self._content.features(track, track.whole_rgb)


def occlusion_of(track: MaskTrack) -> Values:
    """Share of the object that is hidden in each frame, float64 ``[F]``; NaN where it is not in the frame."""
    area = track.amodal_mask.sum(axis=(1, 2)).astype(np.float64)
    hidden = (track.amodal_mask & ~track.clip.modal_mask).sum(axis=(1, 2)).astype(np.float64)
    share = np.full(len(area), np.nan)
    np.divide(hidden, area, out=share, where=area > 0)
    return share


def _has_hidden_colours(track: BenchmarkTrack) -> TypeGuard[MaskTrack]:
    """Whether something is hidden whose true colours are known."""
    if not isinstance(track, MaskTrack) or track.whole_rgb is None:
        return False
    return bool((track.amodal_mask & ~track.clip.modal_mask).any())


def _scores(mask: BoolArray, track: BenchmarkTrack) -> MaskScores | BoxScores:
    if isinstance(track, MaskTrack):
        return score_masks(mask, track.clip.modal_mask, track.amodal_mask)
    if isinstance(track, BoxTrack):
        return score_boxes(mask, track.clip.modal_mask, track.amodal_boxes)
    raise RuntimeError(f"{track.identity}: a track without its truth")


def _calibration(masks: Sequence[BoolArray], track: BenchmarkTrack) -> Values | None:
    if len(masks) < 2 or not isinstance(track, MaskTrack):
        return None
    gathered = Calibration()
    gathered.add(probability_map(masks), track.amodal_mask, ~track.clip.modal_mask)
    return gathered.sums()
