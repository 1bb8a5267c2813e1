"""Means of a run: for each method, by hidden share of the object, and the ranking of the tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from amodal_diffusion.evaluation.methods import Method
from amodal_diffusion.evaluation.report.thresholds import ThresholdCheck
from amodal_diffusion.evaluation.results import Measure, MethodResult, SkippedTarget, TargetResult
from amodal_diffusion.evaluation.scores import (
    CONTENT_MEASURES,
    BoxPool,
    BoxScores,
    MaskPool,
    MaskScores,
    best_of,
    frechet_video_distance,
    pooled_record,
)
from amodal_diffusion.metrics import Calibration, FramePool, Pooled, Protocol, Reliability, Values
from amodal_diffusion.metrics.pooling import mean_of

STEPS = 5
"""Number of bins between a share of 0 and a share of 1."""
BINS: tuple[str, ...] = (
    "0",
    *(f"{100 * step // STEPS}-{100 * (step + 1) // STEPS}" for step in range(STEPS)),
    "100",
)
"""Hidden per cent of the object; 0 and 100 are bins of their own."""
CurveMeasure = Literal["miou", "miou_occ"]


@dataclass(frozen=True)
class TargetMeans:
    """Means of one scored track.

    Attributes:
        index: index of the track in the benchmark.
        identity: identity of the track.
        occlusion: mean hidden share of the object; NaN if only boxes are known.
        methods: main measures over the track's frames, mean over the predictions, by method.
    """

    index: int
    identity: str
    occlusion: float
    methods: dict[str, dict[Measure, float]]


class RunSummary:
    """Means over all tracks, added one at a time; of each track only a few numbers are kept.

    Attributes:
        tracks: the scored tracks.
        skipped: the tracks that were left out.
        frames: number of frames of the scored tracks.
        curves: IoU against the hidden share.
        ranked_by: the method whose scores rank the tracks: the first model, else the last baseline.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        """Start with no tracks.

        Args:
            methods: baselines and models that were scored.
        """
        self._methods = {method.name: _MethodTotals() for method in methods}
        self._about = {method.name: {"learned": method.learned, "uses_depth": method.uses_depth} for method in methods}
        self._check = ThresholdCheck(methods)
        self.curves = OcclusionCurves([method.name for method in methods])
        self._released_curves = OcclusionCurves([method.name for method in methods], protocol="released")
        self.tracks: list[TargetMeans] = []
        self.skipped: list[SkippedTarget] = []
        self.frames = 0
        self.ranked_by = next((method.name for method in methods if method.learned), methods[-1].name)

    def add(self, track: TargetResult | SkippedTarget) -> None:
        """Add a scored track, or one that was left out."""
        if isinstance(track, SkippedTarget):
            self.skipped.append(track)
            return
        self.frames += track.num_frames
        for name, totals in self._methods.items():
            totals.add(track.methods[name], track.true_features)
        self._check.add(track)
        self.curves.add(track)
        self._released_curves.add(track)
        self.tracks.append(
            TargetMeans(
                index=track.index,
                identity=track.identity,
                occlusion=float("nan") if track.occlusion is None else mean_of(track.occlusion),
                methods={
                    name: {measure: mean_of(values) for measure, values in result.frame_means().items()}
                    for name, result in track.methods.items()
                },
            )
        )

    def reliability(self) -> dict[str, Reliability]:
        """Reliability curves of the methods that predict each track several times, by method."""
        curves = {name: totals.reliability() for name, totals in self._methods.items()}
        return {name: curve for name, curve in curves.items() if curve is not None}

    @property
    def measure(self) -> Measure:
        """The measure that ranks tracks: mIoU_occ, or mIoU if no track hides anything, or box IoU."""
        found: list[Measure] = ["miou_occ", "miou", "box_iou"]
        return next((measure for measure in found if self._values(measure)), "miou")

    def ranking(self) -> list[TargetMeans]:
        """Tracks from the worst to the best of the method `ranked_by`; tracks without the measure are left out."""
        values = self._values(self.measure)
        ranked = [track for track in self.tracks if track.index in values]
        return sorted(ranked, key=lambda track: (values[track.index], track.index))

    def record(self) -> dict[str, object]:
        """All means, for JSON."""
        return {
            "tracks": {
                "scored": len(self.tracks),
                "frames": self.frames,
                "skipped": {track.identity: track.reason for track in self.skipped},
            },
            "methods": {name: {**self._about[name], **totals.record()} for name, totals in self._methods.items()},
            "thresholds": [verdict.record() for verdict in self._check.verdicts()],
            "by_occlusion": self.curves.record(),
            "by_occlusion_released": self._released_curves.record(),
            "ranking": {
                "method": self.ranked_by,
                "measure": self.measure,
                "worst_first": [track.identity for track in self.ranking()],
            },
        }

    def _values(self, measure: Measure) -> dict[int, float]:
        """Values of the method `ranked_by`, by index of the track."""
        values = {track.index: track.methods[self.ranked_by].get(measure, float("nan")) for track in self.tracks}
        return {index: value for index, value in values.items() if not np.isnan(value)}


class _MethodTotals:
    """Sums over tracks for one method."""

    def __init__(self) -> None:
        self._masks, self._best_masks = MaskPool(), MaskPool()
        self._boxes, self._best_boxes = BoxPool(), BoxPool()
        self._calibration: Calibration | None = None
        self._content = {measure: FramePool() for measure in CONTENT_MEASURES}
        self._features: list[tuple[Values, Values]] = []
        self._samples = 1
        self._kinds: set[str] = set()
        self._painted = False

    def add(self, result: MethodResult, true_features: Values | None) -> None:
        scores = [sample.scores for sample in result.samples]
        self._samples = len(scores)
        masks = [entry for entry in scores if isinstance(entry, MaskScores)]
        boxes = [entry for entry in scores if isinstance(entry, BoxScores)]
        if masks:
            self._kinds.add("masks")
            self._masks.add(masks)
            self._best_masks.add([best_of(masks)])
        if boxes:
            self._kinds.add("boxes")
            self._boxes.add(np.concatenate([entry.box_iou for entry in boxes]))
            self._best_boxes.add(max((entry.box_iou for entry in boxes), key=_known_mean))
        if result.calibration is not None:
            self._calibration = self._calibration or Calibration()
            self._calibration.add_sums(result.calibration)
        if result.content is not None:
            self._painted = True
            for measure, pool in self._content.items():
                pool.add(np.asarray([getattr(result.content, measure)]))
        if result.features is not None and true_features is not None:
            self._features.append((result.features, true_features))

    def reliability(self) -> Reliability | None:
        return None if self._calibration is None else self._calibration.result()

    def record(self) -> dict[str, object]:
        record = {"samples": self._samples, **self._means(self._masks, self._boxes)}
        if self._samples > 1:
            record["best_of_samples"] = self._means(self._best_masks, self._best_boxes)
        curve = self.reliability()
        if curve is not None:
            record["calibration"] = {
                "expected_calibration_error": curve.error,
                "expected_calibration_error_where_predicted": curve.error_where_predicted,
                **{name: values.tolist() for name, values in asdict(curve).items()},
            }
        if self._painted:
            record["content"] = {
                measure: pooled_record(pool.result(), "mean", frames="tracks")
                for measure, pool in self._content.items()
            }
            record["frechet_video_distance"] = frechet_video_distance(self._features)
        return record

    def _means(self, masks: MaskPool, boxes: BoxPool) -> dict[str, object]:
        record: dict[str, object] = masks.record() if "masks" in self._kinds else {}
        return {**record, "boxes": boxes.record()} if "boxes" in self._kinds else record


def _known_mean(values: Values) -> float:
    """Mean of the frames that count; -1, below all means, if no frame counts."""
    mean = mean_of(values)
    return -1.0 if np.isnan(mean) else mean


class OcclusionCurves:
    """IoU against the hidden share of the object: means over frames in bins."""

    def __init__(self, methods: Sequence[str], *, protocol: Protocol = "strict") -> None:
        """Start with no tracks.

        Args:
            methods: names of the methods.
            protocol: which frames count, and how.
        """
        self._protocol = protocol
        self._pools: dict[CurveMeasure, dict[str, list[FramePool]]] = {
            measure: {name: [FramePool() for _ in BINS] for name in methods} for measure in ("miou", "miou_occ")
        }

    def add(self, track: TargetResult) -> None:
        """Add a track; tracks of which only boxes are known are left out."""
        if track.occlusion is None:
            return
        bins = _bins(track.occlusion)
        for name, result in track.methods.items():
            means = result.frame_means(self._protocol)
            for measure, pools in self._pools.items():
                for number, pool in enumerate(pools[name]):
                    pool.add(np.where(bins == number, means[measure], np.nan))

    def curve(self, measure: CurveMeasure, method: str) -> list[Pooled]:
        """Mean of each bin of `BINS`."""
        return [pool.result() for pool in self._pools[measure][method]]

    def record(self) -> dict[str, object]:
        """All curves, for JSON."""
        return {
            "percent_hidden": list(BINS),
            **{
                measure: {name: [_record(pool.result()) for pool in pools[name]] for name in pools}
                for measure, pools in self._pools.items()
            },
        }


def _bins(occlusion: Values) -> Values:
    """Index of each frame's bin, NaN where the object is not in the frame."""
    between = 1 + np.minimum(np.floor(occlusion * STEPS), STEPS - 1)
    return np.where(occlusion <= 0, 0.0, np.where(occlusion >= 1, len(BINS) - 1.0, between))


def _record(pooled: Pooled) -> dict[str, object]:
    return {**asdict(pooled), "interval": list(pooled.interval)}
