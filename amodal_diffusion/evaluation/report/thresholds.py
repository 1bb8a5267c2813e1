"""Acceptance thresholds: gains over baselines and levels that a bundled model has to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from amodal_diffusion.evaluation.methods import Method
from amodal_diffusion.evaluation.results import MethodResult, TargetResult
from amodal_diffusion.evaluation.scores import MaskScores
from amodal_diffusion.metrics import FramePool, Pooled, SummaryPool, Values


@dataclass(frozen=True)
class GainThreshold:
    """The least gain of a model over a baseline.

    Attributes:
        measure: the measure that is compared; masks in the strict protocol, ``psnr`` over hidden pixels in dB, painted
            with the true masks.
        baseline: the method to beat.
        margin: the least gain.
        with_depth: applies to models with depth (True), without (False), or both (None).
    """

    measure: Literal["miou", "miou_occ", "psnr"]
    baseline: str
    margin: float
    with_depth: bool | None


@dataclass(frozen=True)
class LevelThreshold:
    """A value that a model must reach by itself.

    Attributes:
        measure: ``fully_hidden`` is the mIoU of frames that show nothing of the object. Over tracks that hide nothing,
            ``open_miou`` is the mIoU and ``open_invented`` the area predicted outside of the modal mask, as a share of
            the modal mask's area.
        limit: the least value that passes, or the largest.
        at_least: whether `limit` is the least value.
    """

    measure: Literal["fully_hidden", "open_miou", "open_invented"]
    limit: float
    at_least: bool


@dataclass(frozen=True)
class Verdict:
    """A threshold applied to one model.

    Attributes:
        threshold: the gain or level that is wanted.
        method: name of the model.
        value: the model's gain over the baseline, paired by frame (PSNR by track), or its value for a level; with the
            standard error over tracks.
    """

    threshold: GainThreshold | LevelThreshold
    method: str
    value: Pooled

    @property
    def passed(self) -> bool:
        """Whether the gain reaches the margin, or the value its limit."""
        reached, wanted = self.value.value, self.threshold
        if isinstance(wanted, GainThreshold):
            return reached >= wanted.margin
        return reached >= wanted.limit if wanted.at_least else reached <= wanted.limit

    def record(self) -> dict[str, object]:
        """For JSON; the measured value is under ``gain`` for a gain over a baseline, else under ``value``."""
        measured = {**asdict(self.value), "interval": list(self.value.interval)}
        kind = "gain" if isinstance(self.threshold, GainThreshold) else "value"
        return {**asdict(self.threshold), "method": self.method, kind: measured, "passed": self.passed}


GAIN_THRESHOLDS: tuple[GainThreshold, ...] = (
    GainThreshold(measure="miou_occ", baseline="hull", margin=0.20, with_depth=False),
    GainThreshold(measure="miou_occ", baseline="temporal", margin=0.05, with_depth=False),
    GainThreshold(measure="miou_occ", baseline="hull-nearer", margin=0.03, with_depth=True),
    GainThreshold(measure="miou_occ", baseline="temporal-nearer", margin=0.03, with_depth=True),
    GainThreshold(measure="miou_occ", baseline="temporal-hull-nearer", margin=0.03, with_depth=True),
    GainThreshold(measure="miou", baseline="modal", margin=0.10, with_depth=None),
)
CONTENT_THRESHOLDS: tuple[GainThreshold, ...] = (
    GainThreshold(measure="psnr", baseline="modal", margin=2.0, with_depth=None),
    GainThreshold(measure="psnr", baseline="temporal", margin=0.0, with_depth=False),
    GainThreshold(measure="psnr", baseline="temporal-nearer", margin=0.0, with_depth=True),
)
"""Of painted content: ``modal`` fills with the mean color, the temporal baselines copy from other frames."""
LEVEL_THRESHOLDS: tuple[LevelThreshold, ...] = (
    LevelThreshold(measure="fully_hidden", limit=0.4, at_least=True),
    LevelThreshold(measure="open_miou", limit=0.97, at_least=True),
    LevelThreshold(measure="open_invented", limit=0.02, at_least=False),
)


class ThresholdCheck:
    """Applies the thresholds to the models of a run; a gain is left out if its baseline is not part of the run."""

    def __init__(
        self,
        methods: Sequence[Method],
        gains: Sequence[GainThreshold] = GAIN_THRESHOLDS + CONTENT_THRESHOLDS,
        levels: Sequence[LevelThreshold] = LEVEL_THRESHOLDS,
    ) -> None:
        """Pair models with thresholds.

        Args:
            methods: baselines and models that were scored.
            gains: gains over baselines to check.
            levels: levels to check.
        """
        self._levels = levels
        self._learned = {method.name: (SummaryPool(), SummaryPool()) for method in methods if method.learned}
        names = {method.name for method in methods}
        self._gains = [
            (wanted, method.name, FramePool())
            for wanted in gains
            if wanted.baseline in names
            for method in methods
            if method.learned and wanted.with_depth in (None, method.uses_depth)
        ]

    def add(self, track: TargetResult) -> None:
        """Add a track; model and baseline are paired by frame, so a frame hard for both adds no standard error.

        Args:
            track: scores of all methods; box scores have no thresholds.
        """
        values = {name: _values(result) for name, result in track.methods.items()}
        for wanted, name, pool in self._gains:
            if wanted.measure in values[name]:
                pool.add(values[name][wanted.measure] - values[wanted.baseline][wanted.measure])
        if track.occlusion is None:
            return
        hides_nothing = not np.nan_to_num(track.occlusion).any()
        for name, (of_all, of_open) in self._learned.items():
            for sample in track.methods[name].samples:
                if isinstance(sample.scores, MaskScores):
                    frames = sample.scores.protocols["strict"].frames
                    of_all.add(frames)
                    if hides_nothing:
                        of_open.add(frames)

    def verdicts(self) -> list[Verdict]:
        """The thresholds that could be applied."""
        judged = [Verdict(wanted, name, pool.result()) for wanted, name, pool in self._gains]
        for level in self._levels:
            for name, (of_all, of_open) in self._learned.items():
                reached = {
                    "fully_hidden": of_all.result().miou_hidden,
                    "open_miou": of_open.result().miou,
                    "open_invented": of_open.result().invented_share,
                }
                judged.append(Verdict(level, name, reached[level.measure]))
        return [verdict for verdict in judged if verdict.value.tracks]


def _values(result: MethodResult) -> dict[str, Values]:
    """By measure, the values of one method on one track, float64 ``[F]``, or ``[1]`` of the whole track."""
    values: dict[str, Values] = {str(measure): means for measure, means in result.frame_means().items()}
    return values if result.content is None else {**values, "psnr": np.asarray([result.content.psnr])}
