"""How the scores fall as more of the object is hidden: means over frames in bins of the hidden share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np

from amodal_diffusion.evaluation.results import TrackResult
from amodal_diffusion.metrics import FramePool, Pooled, Values

STEPS = 5
"""Parts that shares between nothing and all of an object are cut into."""
BINS: tuple[str, ...] = (
    "0",
    *(f"{100 * step // STEPS}-{100 * (step + 1) // STEPS}" for step in range(STEPS)),
    "100",
)
"""Per cent of the object that is hidden; nothing and all of it are bins of their own."""
CurveMeasure = Literal["miou", "miou_occ"]


class OcclusionCurves:
    """Gathers the frames of one track after another."""

    def __init__(self, methods: Sequence[str]) -> None:
        """Begin with nothing.

        Args:
            methods: their names.
        """
        self._pools: dict[CurveMeasure, dict[str, list[FramePool]]] = {
            measure: {name: [FramePool() for _ in BINS] for name in methods} for measure in ("miou", "miou_occ")
        }

    def add(self, track: TrackResult) -> None:
        """Add a track; one whose masks are not known has no place on the curves."""
        if track.occlusion is None:
            return
        bins = _bins(track.occlusion)
        for name, result in track.methods.items():
            means = result.frame_means()
            for measure, pools in self._pools.items():
                for number, gathered in enumerate(pools[name]):
                    gathered.add(np.where(bins == number, means[measure], np.nan))

    def curve(self, measure: CurveMeasure, method: str) -> list[Pooled]:
        """One mean a bin."""
        return [gathered.result() for gathered in self._pools[measure][method]]

    def record(self) -> dict[str, object]:
        """All curves, for JSON."""
        return {
            "percent_hidden": list(BINS),
            **{
                measure: {name: [_record(gathered.result()) for gathered in pools[name]] for name in pools}
                for measure, pools in self._pools.items()
            },
        }


def _bins(occlusion: Values) -> Values:
    """Number of each frame's bin, NaN where the object is not in the frame."""
    between = 1 + np.minimum(np.floor(occlusion * STEPS), STEPS - 1)
    return np.where(occlusion <= 0, 0.0, np.where(occlusion >= 1, len(BINS) - 1.0, between))


def _record(pooled: Pooled) -> dict[str, object]:
    return {**asdict(pooled), "interval": list(pooled.interval)}
