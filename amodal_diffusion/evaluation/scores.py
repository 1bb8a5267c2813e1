"""Every measure of one prediction of one track, and means over tracks, pooled in constant memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.metrics import (
    PROTOCOLS,
    THRESHOLDS,
    FramePool,
    FrameScores,
    Pooled,
    Protocol,
    PublishedPool,
    Summary,
    SummaryPool,
    TrackScores,
    Values,
    above,
    best_sample,
    boundary_f,
    box_iou,
    boxes_of,
    flicker,
    frechet_distance,
    instability,
    joined_samples,
    psnr,
    score_track,
    ssim,
    track_of,
)
from amodal_diffusion.types import BoolArray, UInt8Array

if TYPE_CHECKING:
    from amodal_diffusion.models.perceptual import Lpips, VideoFeatures


@dataclass(frozen=True)
class MaskScores:
    """Scores of the masks of one prediction; NaN where a frame does not count.

    Attributes:
        protocols: IoU of the amodal mask and of its hidden part, by protocol.
        boundary_f: F measure of the outlines of the amodal masks, float64 ``[F]``.
        instability: change of the amodal mask's shape beyond the true change, float64 ``[F - 1]``.
        box_iou: IoU of the boxes around both amodal masks, float64 ``[F]``.
    """

    protocols: dict[Protocol, TrackScores]
    boundary_f: Values
    instability: Values
    box_iou: Values


@dataclass(frozen=True)
class BoxScores:
    """Scores of one prediction of a track of which only the true boxes are known.

    Attributes:
        box_iou: IoU of the box around the predicted mask and the true box, float64 ``[F]``.
    """

    box_iou: Values


def score_boxes(prediction: BoolArray, modal: BoolArray, amodal_boxes: Values) -> BoxScores:
    """Score the boxes around the masks of one prediction.

    Args:
        prediction: predicted amodal mask, bool ``[F, H, W]``; the modal mask is added to it.
        modal: modal mask, same shape.
        amodal_boxes: true x, y, width, height, float64 ``[F, 4]``; frames without an area do not count.

    Raises:
        InputError: if shapes differ.
    """
    there = (amodal_boxes[:, 2:] > 0).all(axis=1)
    return BoxScores(np.where(there, box_iou(boxes_of(prediction | modal), amodal_boxes), np.nan))


def score_masks(prediction: BoolArray, modal: BoolArray, amodal: BoolArray) -> MaskScores:
    """Score the masks of one prediction.

    Args:
        prediction: predicted amodal mask, bool ``[F, H, W]``; the modal mask is added to it.
        modal: modal mask, same shape.
        amodal: true amodal mask, same shape.

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


@dataclass(frozen=True)
class ContentScores:
    """Scores of painted content, cut out on white by the true amodal mask; NaN where there is nothing to score.

    Attributes:
        psnr: PSNR over the hidden pixels, dB.
        psnr_object: PSNR over the whole object, dB.
        ssim: SSIM over the hidden pixels.
        ssim_object: SSIM over the whole object.
        flicker: change of the hidden pixels' error from frame to frame, gray levels.
        lpips: LPIPS of the frames; NaN without its weights.
    """

    psnr: float = math.nan
    psnr_object: float = math.nan
    ssim: float = math.nan
    ssim_object: float = math.nan
    flicker: float = math.nan
    lpips: float = math.nan


CONTENT_MEASURES: tuple[str, ...] = tuple(field.name for field in fields(ContentScores))


class ContentScorer:
    """Scores painted content, one track at a time."""

    def __init__(self, *, lpips: Lpips | None = None, features: VideoFeatures | None = None) -> None:
        """Take the networks that two of the measures need; without a network its measure is left out.

        Args:
            lpips: network of LPIPS.
            features: network whose features the Frechet video distance compares.
        """
        self._lpips, self._features = lpips, features

    def score(self, track: MaskTarget, painted: UInt8Array) -> ContentScores:
        """Score a track that hides something and whose true colors are known.

        Args:
            track: the target that was painted.
            painted: uint8 ``[F, H, W, 3]``; only pixels inside the true amodal mask count.
        """
        if track.amodal_rgb is None:
            raise RuntimeError(f"{track.identity}: has no whole object to compare with")
        whole, hidden = track.amodal_mask, track.amodal_mask & ~track.clip.modal_mask
        predicted, truth = cut_out_on_white(painted, whole), cut_out_on_white(track.amodal_rgb, whole)
        return ContentScores(
            psnr=psnr(predicted, truth, hidden),
            psnr_object=psnr(predicted, truth, whole),
            ssim=ssim(predicted, truth, hidden),
            ssim_object=ssim(predicted, truth, whole),
            flicker=flicker(predicted, truth, hidden),
            lpips=math.nan if self._lpips is None else self._lpips.distance(predicted, truth),
        )

    def features(self, track: MaskTarget, painted: UInt8Array) -> Values | None:
        """Features that the Frechet video distance compares, float64 ``[D]``; None without its network.

        Args:
            track: its true amodal mask cuts the object out.
            painted: painted or true colors, uint8 ``[F, H, W, 3]``.
        """
        return None if self._features is None else self._features(cut_out_on_white(painted, track.amodal_mask))


def frechet_video_distance(pairs: Sequence[tuple[Values, Values]]) -> float:
    """Distance of painted clips from the true ones; NaN below two tracks.

    Args:
        pairs: features of what was painted and of the truth, by track, float64 ``[D]`` each.
    """
    if len(pairs) < 2:
        return math.nan
    return frechet_distance(*(np.stack(side) for side in zip(*pairs, strict=True)))


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
    """Pools the scores of masks, one track after another."""

    def __init__(self) -> None:
        """Start with no tracks."""
        self._protocols = {protocol: SummaryPool() for protocol in PROTOCOLS}
        self._published = PublishedPool()
        self._boundary, self._instability, self._boxes = FramePool(), FramePool(), BoxPool()

    def add(self, samples: Sequence[MaskScores]) -> None:
        """Add a track.

        Args:
            samples: one entry per prediction of the track; the frames of all of them count.
        """
        frames = {
            protocol: joined_samples([sample.protocols[protocol] for sample in samples]).frames
            for protocol in PROTOCOLS
        }
        for protocol, pool in self._protocols.items():
            pool.add(frames[protocol])
        self._published.add(frames)
        self._boundary.add(np.concatenate([sample.boundary_f for sample in samples]))
        self._instability.add(np.concatenate([sample.instability for sample in samples]))
        self._boxes.add(np.concatenate([sample.box_iou for sample in samples]))

    def record(self) -> dict[str, object]:
        """All means so far, for JSON."""
        return {
            **{protocol: summary_record(pool.result()) for protocol, pool in self._protocols.items()},
            "published": {
                name: pooled_record(pooled, "miou_occ", frames="tracks" if name == "c2f_video" else "occluded_frames")
                for name, pooled in self._published.result().items()
            },
            "boundary_f": pooled_record(self._boundary.result(), "mean"),
            "instability": pooled_record(self._instability.result(), "mean"),
            "boxes": self._boxes.record(),
        }


class BoxPool:
    """Pools box IoUs, one track after another."""

    def __init__(self) -> None:
        """Start with no tracks."""
        self._iou = FramePool()
        self._above = {threshold: FramePool() for threshold in THRESHOLDS}

    def add(self, ious: Values) -> None:
        """Add a track's frames, float64 ``[F]``."""
        self._iou.add(ious)
        for threshold, pool in self._above.items():
            pool.add(above(ious, threshold))

    def record(self) -> dict[str, object]:
        """All means so far, for JSON."""
        record = pooled_record(self._iou.result(), "miou")
        for threshold, pool in self._above.items():
            record |= pooled_record(pool.result(), f"above_{threshold:g}")
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
        name: its key; its standard error, its 95 % confidence interval, its mean over tracks and their number have it
            as a prefix.
        frames: key of the number of frames.
    """
    return {
        name: pooled.value,
        f"{name}_standard_error": pooled.standard_error,
        f"{name}_interval": list(pooled.interval),
        f"{name}_track_mean": pooled.track_mean,
        f"{name}_tracks": pooled.tracks,
        frames: pooled.frames,
    }
