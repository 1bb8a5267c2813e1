"""The bars that a bundled model has to clear, judged from the methods of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from amodal_diffusion.evaluation.methods import Method
from amodal_diffusion.evaluation.results import MethodResult, TrackResult
from amodal_diffusion.metrics import FramePool, Pooled, Values


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
class Verdict:
    """A bar applied to one learned method.

    Attributes:
        bar: the bar.
        method: the learned method.
        gain: its gain over the bar's baseline, paired by frame (PSNR by track), with the standard error over tracks.
    """

    bar: Bar
    method: str
    gain: Pooled

    @property
    def passed(self) -> bool:
        """Whether the gain reaches the margin."""
        return self.gain.value >= self.bar.margin

    def record(self) -> dict[str, object]:
        """For JSON."""
        gain = {**asdict(self.gain), "interval": list(self.gain.interval)}
        return {**asdict(self.bar), "method": self.method, "gain": gain, "passed": self.passed}


FIRST_BARS: tuple[Bar, ...] = (
    Bar(measure="miou_occ", baseline="hull", margin=0.10, with_depth=False),
    Bar(measure="miou_occ", baseline="hull-nearer", margin=0.05, with_depth=True),
    Bar(measure="miou", baseline="modal", margin=0.10, with_depth=None),
)
CONTENT_BARS: tuple[Bar, ...] = (
    Bar(measure="psnr", baseline="modal", margin=2.0, with_depth=None),
    Bar(measure="psnr", baseline="temporal", margin=0.0, with_depth=False),
    Bar(measure="psnr", baseline="temporal-nearer", margin=0.0, with_depth=True),
)
"""Of painting: ``modal`` fills with the mean colour, the temporal baselines copy what is best seen."""


class Judge:
    """Applies each bar to every learned method it is for, where its baseline is part of the run."""

    def __init__(self, methods: Sequence[Method], bars: Sequence[Bar] = FIRST_BARS + CONTENT_BARS) -> None:
        """Pair methods and bars.

        Args:
            methods: of the run.
            bars: the bars to apply.
        """
        names = {method.name for method in methods}
        self._gains = [
            (bar, method.name, FramePool())
            for bar in bars
            if bar.baseline in names
            for method in methods
            if method.learned and bar.with_depth in (None, method.uses_depth)
        ]

    def add(self, track: TrackResult) -> None:
        """Add a track: the two are paired frame by frame, so what is hard for both does not widen the standard error.

        Args:
            track: all methods' scores of its masks and of what they painted; boxes have no bars.
        """
        values = {name: _values(result) for name, result in track.methods.items()}
        for bar, name, gathered in self._gains:
            if bar.measure in values[name]:
                gathered.add(values[name][bar.measure] - values[bar.baseline][bar.measure])

    def verdicts(self) -> list[Verdict]:
        """The bars that could be applied."""
        judged = [Verdict(bar, name, gathered.result()) for bar, name, gathered in self._gains]
        return [verdict for verdict in judged if verdict.gain.tracks]


def _values(result: MethodResult) -> dict[str, Values]:
    """By measure, the values of one method on one track, float64 ``[F]``, or ``[1]`` of the whole track."""
    values: dict[str, Values] = dict(result.frame_means())
    return values if result.content is None else {**values, "psnr": np.asarray([result.content.psnr])}
