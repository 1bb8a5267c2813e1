"""The bars that a bundled model has to clear, judged from the methods of one run."""

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
class Bar:
    """A learned method's least gain over a baseline.

    Attributes:
        measure: what is compared, masks in the strict protocol; ``psnr`` is of hidden pixels, in dB, the true masks
            given.
        baseline: the method to beat.
        margin: least gain.
        with_depth: the learned methods it is for: with depth, without, or (None) both.
    """

    measure: Literal["miou", "miou_occ", "psnr"]
    baseline: str
    margin: float
    with_depth: bool | None


@dataclass(frozen=True)
class Level:
    """A value that a learned method must reach by itself.

    Attributes:
        measure: ``fully_hidden``: mIoU of frames that show nothing of the object; ``open_miou`` and ``open_invented``:
            mIoU, and area predicted beyond the visible one as a share of that, of tracks that hide nothing.
        limit: the value.
        at_least: whether it is the least or the largest that passes.
    """

    measure: Literal["fully_hidden", "open_miou", "open_invented"]
    limit: float
    at_least: bool


@dataclass(frozen=True)
class Verdict:
    """A bar or level applied to one learned method.

    Attributes:
        bar: the bar or level.
        method: the learned method.
        value: its gain over the bar's baseline, paired by frame (PSNR by track), or its value where there is a level;
            with the standard error over tracks.
    """

    bar: Bar | Level
    method: str
    value: Pooled

    @property
    def passed(self) -> bool:
        """Whether the gain reaches the margin, or the value the level."""
        if isinstance(self.bar, Bar):
            return self.value.value >= self.bar.margin
        return self.value.value >= self.bar.limit if self.bar.at_least else self.value.value <= self.bar.limit

    def record(self) -> dict[str, object]:
        """For JSON; what was measured is the ``gain`` over a baseline or a ``value``."""
        measured = {**asdict(self.value), "interval": list(self.value.interval)}
        kind = "gain" if isinstance(self.bar, Bar) else "value"
        return {**asdict(self.bar), "method": self.method, kind: measured, "passed": self.passed}


BARS: tuple[Bar, ...] = (
    Bar(measure="miou_occ", baseline="hull", margin=0.20, with_depth=False),
    Bar(measure="miou_occ", baseline="temporal", margin=0.05, with_depth=False),
    Bar(measure="miou_occ", baseline="hull-nearer", margin=0.03, with_depth=True),
    Bar(measure="miou_occ", baseline="temporal-nearer", margin=0.03, with_depth=True),
    Bar(measure="miou_occ", baseline="temporal-hull-nearer", margin=0.03, with_depth=True),
    Bar(measure="miou", baseline="modal", margin=0.10, with_depth=None),
)
CONTENT_BARS: tuple[Bar, ...] = (
    Bar(measure="psnr", baseline="modal", margin=2.0, with_depth=None),
    Bar(measure="psnr", baseline="temporal", margin=0.0, with_depth=False),
    Bar(measure="psnr", baseline="temporal-nearer", margin=0.0, with_depth=True),
)
"""Of painting: ``modal`` fills with the mean color, the temporal baselines copy what is best seen."""
LEVELS: tuple[Level, ...] = (
    Level(measure="fully_hidden", limit=0.4, at_least=True),
    Level(measure="open_miou", limit=0.97, at_least=True),
    Level(measure="open_invented", limit=0.02, at_least=False),
)


class Judge:
    """Applies each bar to every learned method it is for, where its baseline is part of the run, and each level."""

    def __init__(
        self, methods: Sequence[Method], bars: Sequence[Bar] = BARS + CONTENT_BARS, levels: Sequence[Level] = LEVELS
    ) -> None:
        """Pair methods and bars.

        Args:
            methods: of the run.
            bars: the bars to apply.
            levels: the levels to apply.
        """
        self._levels = levels
        self._learned = {method.name: (SummaryPool(), SummaryPool()) for method in methods if method.learned}
        names = {method.name for method in methods}
        self._gains = [
            (bar, method.name, FramePool())
            for bar in bars
            if bar.baseline in names
            for method in methods
            if method.learned and bar.with_depth in (None, method.uses_depth)
        ]

    def add(self, track: TargetResult) -> None:
        """Add a track: the two are paired frame by frame, so what is hard for both does not widen the standard error.

        Args:
            track: all methods' scores of its masks and of what they painted; boxes have no bars.
        """
        values = {name: _values(result) for name, result in track.methods.items()}
        for bar, name, gathered in self._gains:
            if bar.measure in values[name]:
                gathered.add(values[name][bar.measure] - values[bar.baseline][bar.measure])
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
        """The bars and levels that could be applied."""
        judged = [Verdict(bar, name, gathered.result()) for bar, name, gathered in self._gains]
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
