"""Runs methods over a benchmark, one track at a time, and holds their scores."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from amodal_diffusion.evaluation.benchmark import MaskTrack
from amodal_diffusion.evaluation.content import CONTENT_MEASURES, ContentScorer, ContentScores
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
        content: of what was painted; all NaN where nothing was or nothing is hidden.
    """

    identity: str
    seconds: float
    strict: TrackScores
    released: TrackScores
    content: ContentScores = field(default_factory=ContentScores)


@dataclass(frozen=True)
class MethodScore:
    """One method on all tracks of a benchmark.

    Attributes:
        name: as given to ``--methods``.
        learned: whether it is a model, which has bars to clear.
        uses_depth: whether it was given the depth.
        tracks: one a track, in the benchmark's order.
        frechet_video_distance: of what was painted; NaN where that was not measured.
    """

    name: str
    learned: bool
    uses_depth: bool
    tracks: Sequence[TrackScore]
    frechet_video_distance: float = math.nan

    def summary(self, protocol: Protocol) -> Summary:
        """Pool the scores of the masks over all tracks."""
        return summarise([getattr(track, protocol) for track in self.tracks])

    @property
    def content(self) -> dict[str, Pooled]:
        """Each measure of painted content, each track with something hidden counting once."""
        return {
            name: pool([np.asarray([getattr(track.content, name)]) for track in self.tracks])
            for name in CONTENT_MEASURES
        }

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
    tracks: Iterable[MaskTrack], methods: Sequence[Method], *, content: ContentScorer | None = None
) -> list[MethodScore]:
    """Score methods on the same tracks.

    Args:
        tracks: made or read one at a time; none is kept.
        methods: what to score.
        content: scores painting too.

    Returns:
        one a method, in the order given.
    """
    scores: list[list[TrackScore]] = [[] for _ in methods]
    for track in tracks:
        for method, kept in zip(methods, scores, strict=True):
            kept.append(_score(method, track, content=content))
    return [
        MethodScore(
            method.name,
            method.learned,
            method.uses_depth,
            kept,
            math.nan if content is None else content.frechet_video_distance(method.name),
        )
        for method, kept in zip(methods, scores, strict=True)
    ]


def _score(method: Method, track: MaskTrack, *, content: ContentScorer | None) -> TrackScore:
    """Predict and score one track."""
    started = time.perf_counter()
    prediction = method.predict(track)
    seconds = time.perf_counter() - started
    modal, amodal = track.clip.modal_mask, track.amodal_mask
    painted = ContentScores()
    if content is not None and track.whole_rgb is not None and (amodal & ~modal).any():
        painted = content.score(method.name, track, method.paint(track))
    return TrackScore(
        identity=track.identity,
        seconds=seconds,
        strict=score_track(prediction, modal, amodal, protocol="strict"),
        released=score_track(prediction, modal, amodal, protocol="released"),
        content=painted,
    )
