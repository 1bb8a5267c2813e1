"""From stage 1's scores to masks: threshold, mask filters. Pure functions; the mask is thresholded here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from amodal_diffusion.config import HIGHEST_THRESHOLD, MASK_FILTERS, MaskFilter, SamplingConfig
from amodal_diffusion.frames.crop import Geometry, ObjectCrop, invert_part
from amodal_diffusion.frames.masks import bounds, nearest_known, object_depth
from amodal_diffusion.frames.transforms import CPU, resize
from amodal_diffusion.pipelines.preprocessing import FrameInput, preprocess_mask
from amodal_diffusion.types import BoolArray, FloatArray

FARTHER_QUANTILE = 0.25
"""Quantile of depth at which filters and occlusion intervals take the object to be: objects lean and depth is noisy."""
LARGEST_GROWTH = 4.0
"""The hidden part of a frame is at most so many times the largest visible area."""
SCORE_TOP = 65535
"""Level of a score of 1."""
_SUMS = 765  # largest sum of three 8-bit levels
_NEIGHBORS = np.ones((3, 3), dtype=np.bool_)


def mask_score(video: Tensor) -> Tensor:
    """How strongly each pixel is taken for the object: the mean of the channels as 8-bit levels, 0 to 1.

    The reference's rule, sum of the three levels above 600, is a score above 600/765 (docs/method.md, section 5).

    Args:
        video: float ``[..., 3, H, W]`` in [-1, 1].

    Returns:
        float32 ``[..., H, W]`` in [0, 1], in steps of 1/765.
    """
    levels = ((video.float() + 1.0) * 127.5).clamp(0.0, 255.0).round()
    return levels.sum(dim=-3) / _SUMS


def score_levels(score: FloatArray) -> npt.NDArray[np.uint16]:
    """Scores in 16 bits, as they are kept in files.

    Args:
        score: float ``[..., H, W]`` in [0, 1].

    Returns:
        uint16 ``[..., H, W]``, 65535 for 1.
    """
    return np.rint(np.clip(score.astype(np.float64), 0, 1) * SCORE_TOP).astype(np.uint16)


def score_of_levels(levels: npt.NDArray[np.uint16]) -> FloatArray:
    """Scores from 16 bits; the inverse of :func:`score_levels` for every score that it returns.

    A level that a multiple of 1/765 gives is that multiple, so that the score of one pass is kept to the bit.

    Args:
        levels: uint16 ``[..., H, W]``.

    Returns:
        float32 ``[..., H, W]`` in [0, 1].
    """
    sums = np.rint(levels.astype(np.float64) * (_SUMS / SCORE_TOP))
    multiple = np.rint(sums * (SCORE_TOP / _SUMS)) == levels
    return np.where(multiple, np.float32(sums) / np.float32(_SUMS), np.float32(levels) / np.float32(SCORE_TOP))


@dataclass(frozen=True)
class ObjectStatistics:
    """What mask filters know of the object beyond the frame that they look at.

    Attributes:
        largest_visible: largest visible area so far, in pixels.
        depth: of the object where it was last visible; None where it was not, or there is no depth.
    """

    largest_visible: int = 0
    depth: float | None = None


def object_statistics(
    frames: Sequence[FrameInput], before: ObjectStatistics
) -> tuple[ObjectStatistics, list[float | None]]:
    """Statistics of the object after a window, and its depth in each frame of the window.

    Args:
        frames: of the window.
        before: statistics of the windows before.

    Returns:
        statistics; and depths, one a frame: where the object is not visible that of the nearest frame that shows it.
    """
    own = [
        None if frame.depth is None else object_depth(frame.modal, frame.depth, FARTHER_QUANTILE) for frame in frames
    ]
    known = [depth for depth in own if depth is not None]
    largest = max(before.largest_visible, *(int(frame.modal.sum()) for frame in frames))
    return ObjectStatistics(largest, known[-1] if known else before.depth), nearest_known(own, before.depth)


@dataclass(frozen=True)
class OtherFrames:
    """What the other frames of a window show of the object in one frame.

    Attributes:
        share: share of them that show the object, float32 ``[H, W]`` in [0, 1].
        weight: how far they can be relied on, float32 ``[H, W]`` in [0, 1].
    """

    share: FloatArray
    weight: FloatArray

    def merged(self, other: OtherFrames) -> OtherFrames:
        """At each pixel, the one that can be relied on more."""
        better = other.weight > self.weight
        return OtherFrames(np.where(better, other.share, self.share), np.where(better, other.weight, self.weight))

    def blended(self, score: Tensor) -> Tensor:
        """A score ``[H, W]``, moved as far towards the share as the other frames can be relied on."""
        share, weight = (torch.from_numpy(value).to(score.device) for value in (self.share, self.weight))
        return score + weight * (share - score)


def postprocess_mask(
    score: Tensor,
    frame: FrameInput,
    config: SamplingConfig,
    statistics: ObjectStatistics | None = None,
    *,
    others: OtherFrames | None = None,
    device: torch.device = CPU,
) -> tuple[BoolArray, dict[MaskFilter, int]]:
    """Cut the amodal mask of a frame from its score.

    ``conditioning="released"`` cuts at the network's size and scales the mask, as the reference does. ``"corrected"``
    scales the score: see :func:`hidden_score`.

    Args:
        score: float ``[h, w]`` in [0, 1], see :func:`mask_score`.
        frame: the frame.
        config: threshold and filters.
        statistics: depth of the object in this frame and its largest visible area, for the filters; unknown when None.
        others: what other frames show, with which the score is blended, at the size of the frame.
        device: where to scale the score and compare it with the threshold, see
            :func:`~amodal_diffusion.pipelines.preprocessing.frame_device`.

    Returns:
        bool ``[H, W]``, contains the modal mask; and the pixels that each filter removed.
    """
    geometry, statistics = frame.geometry(config), statistics or ObjectStatistics()
    if config.conditioning == "released":
        inside = (score.to(device) > config.mask_threshold).float()
        free = geometry.invert(inside[None, None], outside=0.0)[0, 0]
        found = free >= 0.5
    else:
        free = hidden_score(score.to(device), frame.modal, geometry)
        free = free if others is None else others.blended(free)
        found = free > frame_threshold(free, frame.modal, config)
    hidden = found.cpu().numpy() & ~frame.modal
    hidden, removed = filter_mask(hidden, frame, free, config.beyond.mask_filters, statistics, reach=_cell(geometry))
    return hidden | frame.modal, removed


def cut_resized(score: FloatArray, size: tuple[int, ...], threshold: float) -> BoolArray:
    """Masks of stretched frames whose scores are scaled before the threshold, as published for TAO-Amodal.

    What is scaled are levels of 8 bits a channel, and so is the result.

    Args:
        score: float32 ``[F, h, w]`` in [0, 1], see :func:`mask_score`.
        size: H and W of the frames.
        threshold: as ``mask_threshold``.

    Returns:
        bool ``[F, H, W]``.
    """
    height, width = size
    sums = [resize(frame[None, None] * _SUMS, (height, width))[0, 0].round() for frame in torch.from_numpy(score)]
    return torch.stack([levels / _SUMS > threshold for levels in sums]).numpy()


def hidden_score(score: Tensor, modal: BoolArray, geometry: Geometry) -> Tensor:
    """How surely the object goes on beyond its visible part, float32 ``[H, W]``, 1 for certain, on the score's device.

    Scaling blurs the edge of the visible part over its neighbors. A pixel is judged by the share of it that the visible
    part leaves free, or that blur would become a rim around every object.

    Args:
        score: float ``[h, w]`` in [0, 1], at the network's size.
        modal: visible part, bool ``[H, W]``.
        geometry: how the network sees the frame.
    """
    whole, box = invert_part(geometry, score[None, None])
    visible, _ = invert_part(geometry, (preprocess_mask(modal, geometry, score.device) + 1) / 2)
    share = torch.zeros(modal.shape, device=score.device)
    share[box] = ((whole - visible) / (1 - visible).clamp(min=1e-6))[0, 0]
    return share


def frame_threshold(free: Tensor, modal: BoolArray, config: SamplingConfig) -> float:
    """Threshold of a frame: ``mask_threshold``, or with ``expected_iou_weight`` that of the largest expected IoU.

    Args:
        free: from :func:`hidden_score`.
        modal: visible part, bool ``[H, W]``.
        config: of stage 1.
    """
    weight = config.beyond.expected_iou_weight
    if weight is None:
        return config.mask_threshold
    likely = np.clip(free.cpu().numpy()[~modal], 0.0, 1.0)
    return best_threshold(likely, int(modal.sum()), weight=weight, least=config.mask_threshold)


def best_threshold(likely: FloatArray, visible: int, *, weight: float, least: float) -> float:
    """The threshold whose mask has the largest expected IoU.

    Of a mask ``S`` beside the visible part, ``(sum of p in S + w v) / (|S| + sum of p outside of S + w v)`` is about
    its expected IoU, where ``v`` is the visible area: that of the whole object for ``w = 1``, that of the hidden part
    alone for ``w = 0``. Where the network is sure, the best threshold is near one half; of a vague shape more is taken,
    as missing half of it costs more than adding as much beside it; and where next to nothing is likely, next to nothing
    is taken as long as the visible part counts.

    Args:
        likely: how likely each pixel is a hidden one of the object, float32 ``[N]`` in [0, 1].
        visible: pixels of the visible part, at least 0.
        weight: ``w``, at least 0.
        least: no threshold is below this, above 0 and at most 0.5.

    Returns:
        from ``least`` to 0.5; pixels above it are taken.
    """
    levels = np.sort(likely[likely > least])[::-1]
    counts = np.append(np.flatnonzero(np.diff(levels)) + 1, len(levels))  # equal values are taken together or not
    sure = int((levels > HIGHEST_THRESHOLD).sum())
    counts = np.append(sure, counts[counts > sure])
    sums = np.append(0.0, np.cumsum(levels, dtype=np.float64))[counts]
    known = weight * visible
    expected = (sums + known) / np.maximum(counts + float(likely.sum()) - sums + known, 1e-9)
    best = int(counts[expected.argmax()])
    return HIGHEST_THRESHOLD if best == sure else float(np.nextafter(levels[best - 1], np.float32(0)))


def filter_mask(
    hidden: BoolArray,
    frame: FrameInput,
    score: Tensor,
    filters: Sequence[MaskFilter],
    statistics: ObjectStatistics,
    *,
    reach: int,
) -> tuple[BoolArray, dict[MaskFilter, int]]:
    """Remove from a predicted hidden part what cannot be right.

    Args:
        hidden: predicted hidden part, bool ``[H, W]``, nowhere visible.
        frame: visible part and depth.
        score: how sure the hidden part is, float32 ``[H, W]``; the filter ``area`` removes the least sure pixels first.
        filters: which filters are on.
        statistics: of the object; pixels that are not nearer than its depth cannot hide it.
        reach: pixels over which components still touch.

    Returns:
        what is left, bool ``[H, W]``; and the pixels that each filter removed.
    """
    removed = dict.fromkeys(MASK_FILTERS, 0)

    def keep(name: MaskFilter, allowed: BoolArray) -> BoolArray:
        kept: BoolArray = hidden & allowed
        removed[name] = int(hidden.sum()) - int(kept.sum())
        return kept

    if "depth" in filters and frame.depth is not None and statistics.depth is not None:
        hidden = keep("depth", frame.depth > statistics.depth)
    if "components" in filters:
        hidden = keep("components", _connected(hidden, frame.modal, reach))
    limit = int(LARGEST_GROWTH * statistics.largest_visible)
    if "area" in filters and hidden.sum() > limit:
        sure = score.cpu().numpy()
        hidden = keep("area", sure >= (np.sort(sure[hidden])[-limit] if limit else np.inf))
    return hidden, removed


def consensus(samples: BoolArray) -> BoolArray:
    """What most samples ``[K, H, W]`` have; where they are even the first decides."""
    votes = 2 * samples.sum(axis=0)
    majority: BoolArray = (votes > len(samples)) | ((votes == len(samples)) & samples[0])
    return majority


def _connected(hidden: BoolArray, modal: BoolArray, reach: int) -> BoolArray:
    """The components of the hidden part that touch the visible one; where nothing is visible, the largest."""
    if not hidden.any():
        return hidden
    (top, bottom), (left, right) = bounds(hidden | modal)
    box = slice(max(0, top - reach), bottom + reach), slice(max(0, left - reach), right + reach)
    hidden, modal, kept = hidden[box], modal[box], np.zeros_like(hidden)
    whole = hidden | modal
    joined = ndimage.binary_dilation(whole, _NEIGHBORS, iterations=reach) if reach else whole
    components, count = ndimage.label(joined, _NEIGHBORS)
    if modal.any():
        touching = np.zeros(count + 1, np.bool_)
        touching[components[modal]] = True
        kept[box] = touching[components]
    else:
        kept[box] = components == np.bincount(components[hidden]).argmax()
    return kept


def _cell(geometry: Geometry) -> int:
    """Pixels of a frame, a side, that are one pixel of what the network sees, at least 1."""
    shown = geometry.height if isinstance(geometry, ObjectCrop) else max(geometry.source_hw)
    return max(1, round(shown / max(geometry.target_hw)))
