"""IoU of boxes, and the share of frames above a threshold, which box benchmarks call AP."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics.pooling import Values
from amodal_diffusion.types import BoolArray

Boxes = npt.NDArray[np.float64]
THRESHOLDS = (0.25, 0.5, 0.75)


def boxes_of(masks: BoolArray) -> Boxes:
    """Smallest box around each mask.

    Args:
        masks: bool ``[F, H, W]``.

    Returns:
        float64 ``[F, 4]``: x, y, width, height in pixels; all 0 where the mask is empty.
    """
    boxes = np.zeros((len(masks), 4))
    for axis in (0, 1):
        lines = np.asarray(masks.any(axis=axis + 1))  # columns, then rows, [F, side]
        first, last = lines.argmax(axis=1), lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
        there = lines.any(axis=1)
        boxes[there, axis], boxes[there, axis + 2] = first[there], (last - first + 1)[there]
    return boxes


def box_iou(first: Boxes, second: Boxes) -> Values:
    """Intersection over union of boxes, which may leave the frame.

    Args:
        first: x, y, width, height, float64 ``[F, 4]``.
        second: float64 ``[F, 4]``.

    Returns:
        float64 ``[F]``; NaN where neither box has an area.

    Raises:
        InputError: if the shapes are not so.
    """
    if first.ndim != 2 or first.shape[1] != 4 or second.shape != first.shape:
        raise InputError(f"boxes: expected two arrays [F, 4], got {list(first.shape)} and {list(second.shape)}")
    start = np.maximum(first[:, :2], second[:, :2])
    end = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    intersection = np.maximum(end - start, 0).prod(axis=1)
    union = np.maximum(first[:, 2:], 0).prod(axis=1) + np.maximum(second[:, 2:], 0).prod(axis=1) - intersection
    ratio = np.full(len(union), np.nan)
    np.divide(intersection, union, out=ratio, where=union > 0)
    return ratio


def above(ious: Values, threshold: float) -> Values:
    """Which frames have an IoU above a threshold; the mean of it is the share of frames that do.

    Args:
        ious: float64 ``[F]``, NaN where a frame does not count.
        threshold: in [0, 1].

    Returns:
        float64 ``[F]``: 1 or 0, NaN where a frame does not count.
    """
    return np.where(np.isnan(ious), np.nan, ious > threshold)
