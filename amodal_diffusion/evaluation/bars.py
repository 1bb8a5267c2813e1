"""The bars that a bundled model has to clear, judged from the methods of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amodal_diffusion.evaluation.scoring import Measure, MethodScore
from amodal_diffusion.metrics import Pooled


@dataclass(frozen=True)
class Bar:
    """A learned method's least gain over a baseline.

    Attributes:
        measure: what is compared, strict protocol.
        baseline: the method to beat.
        margin: least gain.
        with_depth: the learned methods it is for: with depth, without, or (None) both.
    """

    measure: Measure
    baseline: str
    margin: float
    with_depth: bool | None


@dataclass(frozen=True)
class Verdict:
    """A bar applied to one learned method.

    Attributes:
        bar: the bar.
        method: the learned method.
        gain: its gain over the bar's baseline, paired by frame, with the standard error over tracks.
    """

    bar: Bar
    method: str
    gain: Pooled

    @property
    def passed(self) -> bool:
        """Whether the gain reaches the margin."""
        return self.gain.value >= self.bar.margin


FIRST_BARS: tuple[Bar, ...] = (
    Bar(measure="miou_occ", baseline="hull", margin=0.10, with_depth=False),
    Bar(measure="miou_occ", baseline="hull-nearer", margin=0.05, with_depth=True),
    Bar(measure="miou", baseline="modal", margin=0.10, with_depth=None),
)


def judge(scores: Sequence[MethodScore], bars: Sequence[Bar] = FIRST_BARS) -> list[Verdict]:
    """Apply each bar to every learned method it is for, where its baseline is part of the run.

    Args:
        scores: methods scored on the same tracks.
        bars: the bars to apply.
    """
    by_name = {score.name: score for score in scores}
    return [
        Verdict(bar, score.name, score.gain(by_name[bar.baseline], bar.measure))
        for bar in bars
        if bar.baseline in by_name
        for score in scores
        if score.learned and bar.with_depth in (None, score.uses_depth)
    ]
