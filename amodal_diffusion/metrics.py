"""IoU protocols for completed masks: pure functions on boolean arrays (docs/method.md, section 8).

A prediction is OR-ed with the modal mask first. The protocols differ in the hidden part only: ``strict`` counts every
frame that hides something; ``released``, as published figures were computed, erodes both hidden parts by a
5 x 5 square and drops the frames whose IoU is then 0, so that a complete miss vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from amodal_diffusion.types import BoolArray, InputError

Protocol = Literal["strict", "released"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
Values = npt.NDArray[np.float64]

EROSION_SIDE = 5
LEAST_RELEASED_IOU = 1e-6


@dataclass(frozen=True)
class FrameScores:
    """Scores of each frame of one track, float64 ``[F]`` each; NaN where a frame does not count.

    Attributes:
        iou: of the whole object, in frames whose true amodal mask is not empty.
        occluded_iou: of the hidden part, in frames that hide something.
        hidden_iou: of the whole object, in frames that hide all of it.
        invented: pixels predicted beyond the modal mask in frames that hide nothing or have no object.
        visible: pixels of the modal mask in those same frames.
    """

    iou: Values
    occluded_iou: Values
    hidden_iou: Values
    invented: Values
    visible: Values


@dataclass(frozen=True)
class TrackScores:
    """Means over the counting frames of one track; NaN where no frame counts.

    Attributes:
        frames: scores of each frame.
        miou: mean IoU of the whole object.
        miou_occ: mean IoU of the hidden part.
        miou_hidden: mean IoU of the whole object over fully hidden frames.
        invented: invented area as a share of the visible area, over the frames that hide nothing.
    """

    frames: FrameScores
    miou: float
    miou_occ: float
    miou_hidden: float
    invented: float


@dataclass(frozen=True)
class Pooled:
    """A mean over the frames of all tracks.

    Attributes:
        value: the mean over frames; NaN where none counts.
        standard_error: of `value`, with tracks (not frames) as the independent draws; NaN below two tracks.
        track_mean: mean over tracks of each track's own mean.
        frames: number of frames that count.
        tracks: number of tracks with such a frame.
    """

    value: float
    standard_error: float
    track_mean: float
    frames: int
    tracks: int


@dataclass(frozen=True)
class Summary:
    """All measures over all tracks; `invented` is pooled as a ratio of areas."""

    miou: Pooled
    miou_occ: Pooled
    miou_hidden: Pooled
    invented: float


def iou(first: BoolArray, second: BoolArray) -> Values:
    """Intersection over union of each frame.

    Args:
        first: bool ``[F, H, W]``.
        second: bool ``[F, H, W]``.

    Returns:
        float64 ``[F]``; NaN where both masks are empty.
    """
    intersection = (first & second).sum(axis=(1, 2), dtype=np.float64)
    area = (first | second).sum(axis=(1, 2), dtype=np.float64)
    ratio = np.full(len(area), np.nan)
    np.divide(intersection, area, out=ratio, where=area > 0)
    return ratio


def score_frames(
    prediction: BoolArray, modal: BoolArray, amodal: BoolArray, *, protocol: Protocol = "strict"
) -> FrameScores:
    """Score each frame of one track.

    Args:
        prediction: predicted amodal mask, bool ``[F, H, W]``.
        modal: visible part, same shape; an annotation's modal pixels outside of `amodal` are not hidden ones.
        amodal: true whole object, same shape.
        protocol: how the hidden part is scored.

    Raises:
        InputError: if shapes or dtypes differ or the protocol is unknown.
    """
    _check(prediction, modal, amodal, protocol)
    whole = prediction | modal
    truth_hidden, guess_hidden = amodal & ~modal, whole & ~modal
    there, hides = amodal.any(axis=(1, 2)), truth_hidden.any(axis=(1, 2))
    whole_iou = iou(whole, amodal)
    if protocol == "strict":
        occluded = np.where(hides, iou(guess_hidden, truth_hidden), np.nan)
    else:
        occluded = iou(_eroded(guess_hidden), _eroded(truth_hidden))
        occluded[~(occluded >= LEAST_RELEASED_IOU)] = np.nan
    return FrameScores(
        iou=np.where(there, whole_iou, np.nan),
        occluded_iou=occluded,
        hidden_iou=np.where(there & ~modal.any(axis=(1, 2)), whole_iou, np.nan),
        invented=np.where(hides, np.nan, guess_hidden.sum(axis=(1, 2))),
        visible=np.where(hides, np.nan, modal.sum(axis=(1, 2))),
    )


def score_track(
    prediction: BoolArray, modal: BoolArray, amodal: BoolArray, *, protocol: Protocol = "strict"
) -> TrackScores:
    """Score one track; arguments and errors as for `score_frames`."""
    frames = score_frames(prediction, modal, amodal, protocol=protocol)
    return TrackScores(
        frames=frames,
        miou=_mean(frames.iou),
        miou_occ=_mean(frames.occluded_iou),
        miou_hidden=_mean(frames.hidden_iou),
        invented=_share([frames]),
    )


def summarise(tracks: Sequence[TrackScores]) -> Summary:
    """Pool the frames of all tracks, scored with one protocol."""
    frames = [track.frames for track in tracks]
    return Summary(
        miou=pool([track.iou for track in frames]),
        miou_occ=pool([track.occluded_iou for track in frames]),
        miou_hidden=pool([track.hidden_iou for track in frames]),
        invented=_share(frames),
    )


def pool(tracks: Sequence[Values]) -> Pooled:
    """Mean over the counting frames of all tracks.

    The standard error is that of a ratio of two sums over clusters, because the frames of a track resemble each other.

    Args:
        tracks: per track float64 ``[F]``, NaN where a frame does not count.
    """
    kept = [values[~np.isnan(values)] for values in tracks]
    kept = [values for values in kept if len(values)]
    if not kept:
        return Pooled(math.nan, math.nan, math.nan, 0, 0)
    totals = np.asarray([values.sum() for values in kept])
    counts = np.asarray([len(values) for values in kept], dtype=np.float64)
    value = float(totals.sum() / counts.sum())
    error = math.nan
    if len(kept) > 1:
        spread = float(((totals - value * counts) ** 2).sum()) * len(kept) / (len(kept) - 1)
        error = math.sqrt(spread) / float(counts.sum())
    return Pooled(value, error, float((totals / counts).mean()), int(counts.sum()), len(kept))


def _check(prediction: BoolArray, modal: BoolArray, amodal: BoolArray, protocol: str) -> None:
    for name, mask in (("prediction", prediction), ("modal", modal), ("amodal", amodal)):
        if mask.dtype != np.bool_ or mask.ndim != 3 or mask.shape != amodal.shape:
            raise InputError(
                f"{name}: expected bool [F, H, W] of the amodal mask's shape {list(amodal.shape)}, got {mask.dtype} "
                f"{list(mask.shape)}; resize with video.masks.resize_masks"
            )
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")


def _eroded(masks: BoolArray) -> BoolArray:
    """Masks ``[F, H, W]`` eroded frame by frame by a square; the image border does not erode."""
    square = np.ones((1, EROSION_SIDE, EROSION_SIDE), dtype=np.bool_)
    return np.asarray(ndimage.binary_erosion(masks, structure=square, border_value=1))


def _mean(values: Values) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


def _share(tracks: Sequence[FrameScores]) -> float:
    """Invented area over visible area, over all frames that hide nothing; NaN where nothing is visible in them."""
    visible = sum(float(np.nansum(track.visible)) for track in tracks)
    invented = sum(float(np.nansum(track.invented)) for track in tracks)
    return invented / visible if visible else math.nan
