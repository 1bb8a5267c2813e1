"""IoU of completed masks in the two protocols: pure functions on boolean arrays (docs/method.md, section 8).

A prediction is OR-ed with the modal mask first. ``strict`` counts every frame that has an object, and for the hidden
part every frame that hides something. ``released`` is how published figures were computed: frames without an object
count as 0; both hidden parts are eroded by a 5 x 5 square, and the frames whose IoU is then 0 are dropped, so that a
complete miss vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics.pooling import FramePool, Pooled, RatioPool, Values, mean_of
from amodal_diffusion.types import BoolArray

Protocol = Literal["strict", "released"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

EROSION_SIDE = 5
LEAST_RELEASED_IOU = 1e-6


@dataclass(frozen=True)
class FrameScores:
    """Scores of each frame of one track, float64 ``[F]`` each; NaN where a frame does not count.

    Attributes:
        iou: IoU of the amodal mask; in `strict` only in frames whose true amodal mask is not empty.
        occluded_iou: IoU of the hidden part, in frames that hide something.
        hidden_iou: IoU of the amodal mask, in frames that hide the whole object.
        invented: pixels predicted outside of the modal mask in frames that hide nothing or do not show the object.
        visible: pixels of the modal mask in the same frames as `invented`.
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
        miou: mean IoU of the amodal mask.
        miou_occ: mean IoU of the hidden part.
        miou_hidden: mean IoU of the amodal mask over fully hidden frames.
        invented: invented area as a share of the visible area, over the frames that hide nothing.
    """

    frames: FrameScores
    miou: float
    miou_occ: float
    miou_hidden: float
    invented: float


@dataclass(frozen=True)
class Summary:
    """All measures over all tracks; the invented share is a ratio of areas."""

    miou: Pooled
    miou_occ: Pooled
    miou_hidden: Pooled
    invented_share: Pooled

    @property
    def invented(self) -> float:
        """Invented area as a share of the visible area, over the frames that hide nothing."""
        return self.invented_share.value


class SummaryPool:
    """Pools one track after another, scored with one protocol, in constant memory."""

    def __init__(self) -> None:
        """Start with no tracks."""
        self._iou, self._occluded, self._hidden = FramePool(), FramePool(), FramePool()
        self._invented = RatioPool()

    def add(self, frames: FrameScores) -> None:
        """Add a track's frames."""
        self._iou.add(frames.iou)
        self._occluded.add(frames.occluded_iou)
        self._hidden.add(frames.hidden_iou)
        self._invented.add(float(np.nansum(frames.invented)), float(np.nansum(frames.visible)))

    def result(self) -> Summary:
        """All measures so far."""
        return Summary(self._iou.result(), self._occluded.result(), self._hidden.result(), self._invented.result())


def iou(first: BoolArray, second: BoolArray) -> Values:
    """Intersection over union of each frame.

    Args:
        first: bool ``[F, H, W]``.
        second: bool ``[F, H, W]``.

    Returns:
        float64 ``[F]``; NaN where both masks are empty.
    """
    intersection = (first & second).sum(axis=(1, 2)).astype(np.float64)
    union = (first | second).sum(axis=(1, 2)).astype(np.float64)
    ratio = np.full(len(union), np.nan)
    np.divide(intersection, union, out=ratio, where=union > 0)
    return ratio


def score_frames(
    prediction: BoolArray, modal: BoolArray, amodal: BoolArray, *, protocol: Protocol = "strict"
) -> FrameScores:
    """Score each frame of one track.

    Args:
        prediction: predicted amodal mask, bool ``[F, H, W]``.
        modal: modal mask, same shape; modal pixels outside of `amodal` do not count as hidden.
        amodal: true amodal mask, same shape.
        protocol: ``strict`` or ``released``.

    Raises:
        InputError: if shapes or dtypes differ or the protocol is unknown.
    """
    check_masks(prediction=prediction, modal=modal, amodal=amodal)
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    whole, modal, amodal = _cropped(prediction | modal, modal, amodal)
    truth_hidden, guess_hidden = amodal & ~modal, whole & ~modal
    there, hides = amodal.any(axis=(1, 2)), truth_hidden.any(axis=(1, 2))
    if protocol == "strict":
        whole_iou = np.where(there, iou(whole, amodal), np.nan)
        occluded = np.where(hides, iou(guess_hidden, truth_hidden), np.nan)
    else:
        whole_iou = np.nan_to_num(iou(whole, amodal))
        occluded = iou(_eroded(guess_hidden), _eroded(truth_hidden))
        occluded[~(occluded >= LEAST_RELEASED_IOU)] = np.nan
    return FrameScores(
        iou=whole_iou,
        occluded_iou=occluded,
        hidden_iou=np.where(there & ~modal.any(axis=(1, 2)), whole_iou, np.nan),
        invented=np.where(hides, np.nan, guess_hidden.sum(axis=(1, 2))),
        visible=np.where(hides, np.nan, modal.sum(axis=(1, 2))),
    )


def score_track(
    prediction: BoolArray, modal: BoolArray, amodal: BoolArray, *, protocol: Protocol = "strict"
) -> TrackScores:
    """Score one track; arguments and errors as for `score_frames`."""
    return track_of(score_frames(prediction, modal, amodal, protocol=protocol))


def track_of(frames: FrameScores) -> TrackScores:
    """The means over a track's frames."""
    visible = float(np.nansum(frames.visible))
    return TrackScores(
        frames=frames,
        miou=mean_of(frames.iou),
        miou_occ=mean_of(frames.occluded_iou),
        miou_hidden=mean_of(frames.hidden_iou),
        invented=float(np.nansum(frames.invented)) / visible if visible else math.nan,
    )


def summarise(tracks: Iterable[TrackScores]) -> Summary:
    """Pool the frames of all tracks, scored with one protocol."""
    pooled = SummaryPool()
    for track in tracks:
        pooled.add(track.frames)
    return pooled.result()


def check_masks(**masks: npt.NDArray[np.generic]) -> None:
    """Require bool ``[F, H, W]`` of one shape.

    Args:
        masks: by the name that the message gives; the last sets the shape.

    Raises:
        InputError: if a dtype or a shape differs.
    """
    last = list(masks)[-1]
    shape = masks[last].shape
    for name, mask in masks.items():
        if mask.dtype != np.bool_ or mask.ndim != 3 or mask.shape != shape:
            raise InputError(
                f"{name}: expected bool [F, H, W] of the {last} mask's shape {list(shape)}, got {mask.dtype} "
                f"{list(mask.shape)}; resize with frames.masks.resize_masks"
            )


def _cropped(whole: BoolArray, modal: BoolArray, amodal: BoolArray) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Cut away what no frame uses; a rim as wide as the erosion reaches stays, so that no score changes."""
    used = np.asarray((whole | amodal).any(axis=0))
    windows = []
    for axis in (0, 1):
        lines = np.flatnonzero(used.any(axis=1 - axis))
        first, last = (lines[0], lines[-1]) if len(lines) else (0, 0)
        windows.append(slice(max(0, first - EROSION_SIDE // 2), last + EROSION_SIDE // 2 + 1))
    window = (slice(None), *windows)
    return whole[window], modal[window], amodal[window]


def _eroded(masks: BoolArray) -> BoolArray:
    """Masks ``[F, H, W]`` eroded frame by frame by a square; the image border does not erode."""
    sizes = (1, EROSION_SIDE, EROSION_SIDE)
    return np.asarray(ndimage.minimum_filter(masks, sizes, mode="constant", cval=1))
