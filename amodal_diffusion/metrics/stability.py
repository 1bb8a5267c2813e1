"""Temporal instability: change of the predicted shape that the true shape does not have."""

from __future__ import annotations

import math

import numpy as np

from amodal_diffusion.metrics.pooling import Values
from amodal_diffusion.metrics.protocols import check_masks
from amodal_diffusion.types import BoolArray


def instability(prediction: BoolArray, truth: BoolArray) -> Values:
    """How much more the prediction changes from one frame to the next than the true shape does.

    Both are moved by the shift of the true shape's center between the two frames, to a whole pixel, so that motion
    alone changes neither. The change of a shape is one less its IoU with itself a frame later, within the part of the
    frame that both frames show.

    Args:
        prediction: bool ``[F, H, W]``.
        truth: bool ``[F, H, W]``.

    Returns:
        float64 ``[F - 1]`` from 0 (changes no more than the truth) to 1; NaN where one of the two frames has no object.

    Raises:
        InputError: if shapes or dtypes differ.
    """
    check_masks(prediction=prediction, truth=truth)
    centers = [_center(mask) for mask in truth]
    values = np.full(max(0, len(truth) - 1), np.nan)
    for frame in range(len(values)):
        here, there = centers[frame], centers[frame + 1]
        if here is not None and there is not None:
            shift = (math.floor(there[0] - here[0] + 0.5), math.floor(there[1] - here[1] + 0.5))
            predicted, true = (_change(masks[frame], masks[frame + 1], shift) for masks in (prediction, truth))
            values[frame] = max(0.0, predicted - true)
    return values


def _center(mask: BoolArray) -> tuple[float, float] | None:
    """Mean row and column of a mask, bool ``[H, W]``."""
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    area = int(rows.sum())
    if area == 0:
        return None
    return float(rows @ np.arange(len(rows))) / area, float(columns @ np.arange(len(columns))) / area


def _change(before: BoolArray, after: BoolArray, shift: tuple[int, int]) -> float:
    """One less the IoU of a mask, moved by a shift, and its successor, bool ``[H, W]``; 0 if both are empty."""
    (before_rows, after_rows), (before_columns, after_columns) = (
        _overlap(step, side) for step, side in zip(shift, before.shape, strict=True)
    )
    first, second = before[before_rows, before_columns], after[after_rows, after_columns]
    union = np.count_nonzero(first | second)
    return 1 - np.count_nonzero(first & second) / union if union else 0.0


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Where the two frames show the same along an axis, before and after a shift."""
    return slice(max(0, -shift), max(0, side - max(0, shift))), slice(max(0, shift), max(0, side + min(0, shift)))
