"""Runs methods over a benchmark, one track at a time, and holds their scores."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from amodal_diffusion.evaluation.benchmark import BenchmarkTrack
from amodal_diffusion.evaluation.content import hidden_psnr
from amodal_diffusion.evaluation.methods import Method
from amodal_diffusion.metrics import Pooled, Protocol, Summary, TrackScores, pool, score_track, summarise

Measure = Literal["miou", "miou_occ"]


@dataclass(frozen=True)
class TrackScore:
    """One method on one track.

    Attributes:
        identity: the track's.
        seconds: time the mask's prediction took.
        strict: scores of the mask, strict protocol.
        released: scores of the mask, released protocol.
        psnr: painted content over hidden pixels, dB; NaN where nothing was painted or nothing is hidden.
    """

    identity: str
    seconds: float
    strict: TrackScores
    released: TrackScores
    psnr: float = math.nan


@dataclass(frozen=True)
class MethodScore:
    """One method on all tracks of a benchmark.

    Attributes:
        name: as given to ``--methods``.
        learned: whether it is a model, which has bars to clear.
        uses_depth: whether it was given the depth.
        tracks: one a track, in the benchmark's order.
    """

    name: str
    learned: bool
    uses_depth: bool
    tracks: Sequence[TrackScore]

    def summary(self, protocol: Protocol) -> Summary:
        """Pool the scores of the masks over all tracks."""
        return summarise([getattr(track, protocol) for track in self.tracks])

    @property
    def psnr(self) -> Pooled:
        """Painted content, each track with something hidden counting once."""
        return pool([np.asarray([track.psnr]) for track in self.tracks])

    @property
    def seconds(self) -> float:
        """Mean time of a mask's prediction."""
        return sum(track.seconds for track in self.tracks) / len(self.tracks)

    def gain(self, other: MethodScore, measure: Measure) -> Pooled:
        """Pool the difference to another method in the strict protocol.

        The two are paired frame by frame, so what makes a track hard for both does not widen the standard error.

        Args:
            other: scored on the same tracks.
            measure: what to compare.
        """
        field = {"miou": "iou", "miou_occ": "occluded_iou"}[measure]
        pairs = zip(self.tracks, other.tracks, strict=True)
        return pool([getattr(a.strict.frames, field) - getattr(b.strict.frames, field) for a, b in pairs])


def score_methods(
    tracks: Iterable[BenchmarkTrack], methods: Sequence[Method], *, content: bool = False
) -> list[MethodScore]:
    """Score methods on the same tracks.

    Args:
        tracks: made or read one at a time; none is kept.
        methods: what to score.
        content: whether to score painting too.

    Returns:
        one a method, in the order given.
    """
    scores: list[list[TrackScore]] = [[] for _ in methods]
    for track in tracks:
        for method, kept in zip(methods, scores, strict=True):
            kept.append(_score(method, track, content=content))
    return [
        MethodScore(method.name, method.learned, method.uses_depth, kept)
        for method, kept in zip(methods, scores, strict=True)
    ]


def _score(method: Method, track: BenchmarkTrack, *, content: bool) -> TrackScore:
    """Predict and score one track."""
    started = time.perf_counter()
    prediction = method.predict(track)
    seconds = time.perf_counter() - started
    modal, amodal = track.clip.modal_mask, track.amodal_mask
    hidden = amodal & ~modal
    psnr = math.nan
    if content and track.whole_rgb is not None and hidden.any():
        psnr = hidden_psnr(method.paint(track), track.whole_rgb, hidden)
    return TrackScore(
        identity=track.identity,
        seconds=seconds,
        strict=score_track(prediction, modal, amodal, protocol="strict"),
        released=score_track(prediction, modal, amodal, protocol="released"),
        psnr=psnr,
    )
