"""All measures of predicted masks: of one track, and gathered over tracks in constant memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amodal_diffusion.metrics import (
    PROTOCOLS,
    THRESHOLDS,
    FramePool,
    FrameScores,
    Pooled,
    Protocol,
    Summary,
    SummaryPool,
    TrackScores,
    Values,
    above,
    best_sample,
    boundary_f,
    box_iou,
    boxes_of,
    instability,
    joined_samples,
    score_track,
    track_of,
)
from amodal_diffusion.types import BoolArray


@dataclass(frozen=True)
class MaskScores:
    """One prediction of one track; NaN where a frame does not count.

    Attributes:
        protocols: by protocol.
        boundary_f: of the whole object, float64 ``[F]``.
        instability: of the whole object, float64 ``[F - 1]``.
        box_iou: of the boxes around both masks, float64 ``[F]``.
    """

    protocols: dict[Protocol, TrackScores]
    boundary_f: Values
    instability: Values
    box_iou: Values


@dataclass(frozen=True)
class BoxScores:
    """One prediction of one track of which only the true boxes are known.

    Attributes:
        box_iou: of the box around the mask and the true box, float64 ``[F]``.
    """

    box_iou: Values


def score_boxes(prediction: BoolArray, modal: BoolArray, amodal_boxes: Values) -> BoxScores:
    """Score the boxes around one prediction of one track.

    Args:
        prediction: predicted amodal mask, bool ``[F, H, W]``; the modal mask is added to it.
        modal: visible part, same shape.
        amodal_boxes: true x, y, width, height, float64 ``[F, 4]``; frames without an area do not count.

    Raises:
        InputError: if shapes differ.
    """
    there = (amodal_boxes[:, 2:] > 0).all(axis=1)
    return BoxScores(np.where(there, box_iou(boxes_of(prediction | modal), amodal_boxes), np.nan))


def score_masks(prediction: BoolArray, modal: BoolArray, amodal: BoolArray) -> MaskScores:
    """Score one prediction of one track.

    Args:
        prediction: predicted amodal mask, bool ``[F, H, W]``; the modal mask is added to it.
        modal: visible part, same shape.
        amodal: true whole object, same shape.

    Raises:
        InputError: if shapes or dtypes differ.
    """
    protocols = {protocol: score_track(prediction, modal, amodal, protocol=protocol) for protocol in PROTOCOLS}
    whole = prediction | modal
    there = amodal.any(axis=(1, 2))
    return MaskScores(
        protocols=protocols,
        boundary_f=np.where(there, boundary_f(whole, amodal), np.nan),
        instability=instability(whole, amodal),
        box_iou=np.where(there, box_iou(boxes_of(whole), boxes_of(amodal)), np.nan),
    )


def scores_record(scores: MaskScores | BoxScores) -> dict[str, object]:
    """All frames of a prediction, for JSON; `read_scores` reads it back equal."""
    if isinstance(scores, BoxScores):
        return {"box_iou": scores.box_iou.tolist()}
    return {
        **{
            protocol: {name: values.tolist() for name, values in vars(track.frames).items()}
            for protocol, track in scores.protocols.items()
        },
        "boundary_f": scores.boundary_f.tolist(),
        "instability": scores.instability.tolist(),
        "box_iou": scores.box_iou.tolist(),
    }


def read_scores(record: Mapping[str, Any]) -> MaskScores | BoxScores:
    """Scores from what `scores_record` gave, by way of JSON, where null is no value."""
    if "strict" not in record:
        return BoxScores(as_values(record["box_iou"]))
    return MaskScores(
        protocols={
            protocol: track_of(FrameScores(**{name: as_values(list_) for name, list_ in record[protocol].items()}))
            for protocol in PROTOCOLS
        },
        boundary_f=as_values(record["boundary_f"]),
        instability=as_values(record["instability"]),
        box_iou=as_values(record["box_iou"]),
    )


def as_values(numbers: Sequence[float | None]) -> Values:
    """Float64 ``[N]``, NaN for None."""
    return np.asarray(numbers, dtype=np.float64)


class MaskPool:
    """Gathers the scores of one track after another."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._protocols = {protocol: SummaryPool() for protocol in PROTOCOLS}
        self._boundary, self._instability, self._boxes = FramePool(), FramePool(), BoxPool()

    def add(self, samples: Sequence[MaskScores]) -> None:
        """Add a track.

        Args:
            samples: scores of its predictions; the frames of all of them count.
        """
        for protocol, gathered in self._protocols.items():
            gathered.add(joined_samples([sample.protocols[protocol] for sample in samples]).frames)
        self._boundary.add(np.concatenate([sample.boundary_f for sample in samples]))
        self._instability.add(np.concatenate([sample.instability for sample in samples]))
        self._boxes.add(np.concatenate([sample.box_iou for sample in samples]))

    def record(self) -> dict[str, object]:
        """All means so far, for JSON."""
        return {
            **{protocol: summary_record(gathered.result()) for protocol, gathered in self._protocols.items()},
            "boundary_f": pooled_record(self._boundary.result(), "mean"),
            "instability": pooled_record(self._instability.result(), "mean"),
            "boxes": self._boxes.record(),
        }


class BoxPool:
    """Gathers the box IoUs of one track after another."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._iou = FramePool()
        self._above = {threshold: FramePool() for threshold in THRESHOLDS}

    def add(self, ious: Values) -> None:
        """Add a track's frames, float64 ``[F]``."""
        self._iou.add(ious)
        for threshold, gathered in self._above.items():
            gathered.add(above(ious, threshold))

    def record(self) -> dict[str, object]:
        """All means so far, for JSON."""
        record = pooled_record(self._iou.result(), "miou")
        for threshold, gathered in self._above.items():
            record |= pooled_record(gathered.result(), f"above_{threshold:g}")
        return record


def best_of(samples: Sequence[MaskScores]) -> MaskScores:
    """The best of a track's predictions: the one with the largest mIoU in the strict protocol."""
    return samples[best_sample([sample.protocols["strict"] for sample in samples])]


def summary_record(summary: Summary) -> dict[str, object]:
    """The means of one protocol, for JSON."""
    return {
        **pooled_record(summary.miou, "miou"),
        **pooled_record(summary.miou_occ, "miou_occ", frames="occluded_frames"),
        **pooled_record(summary.miou_hidden, "miou_hidden", frames="hidden_frames"),
        **pooled_record(summary.invented_share, "invented", frames="visible_pixels_of_frames_that_hide_nothing"),
    }


def pooled_record(pooled: Pooled, name: str, *, frames: str = "frames") -> dict[str, object]:
    """One mean, for JSON.

    Args:
        pooled: the mean.
        name: its key; its standard error, its 95 % confidence interval and its mean over tracks have it as a prefix.
        frames: key of the number of frames.
    """
    return {
        name: pooled.value,
        f"{name}_standard_error": pooled.standard_error,
        f"{name}_interval": list(pooled.interval),
        f"{name}_track_mean": pooled.track_mean,
        frames: pooled.frames,
    }
