"""Boundary F: how well the outlines of two masks follow each other, within a tolerance."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from amodal_diffusion.metrics.pooling import Values
from amodal_diffusion.metrics.protocols import check_masks
from amodal_diffusion.types import BoolArray

TOLERANCE = 0.008
"""Share of the frame's diagonal, as video object segmentation uses it."""


def boundary_f(prediction: BoolArray, truth: BoolArray, *, tolerance: float = TOLERANCE) -> Values:
    """F measure of the outlines of each frame.

    A pixel of an outline is found if the other outline passes within the tolerance. F is the harmonic mean of the share
    of the predicted outline that is found and the share of the true outline that is.

    Args:
        prediction: bool ``[F, H, W]``.
        truth: bool ``[F, H, W]``.
        tolerance: as a share of the frame's diagonal; in pixels it is rounded up.

    Returns:
        float64 ``[F]``; NaN where neither mask has an outline.

    Raises:
        InputError: if shapes or dtypes differ.
    """
    check_masks(prediction=prediction, truth=truth)
    reach = math.ceil(tolerance * math.hypot(*truth.shape[1:]))
    outlines = zip(_outlines(prediction), _outlines(truth), strict=True)
    return np.asarray([_f_measure(first, second, reach) for first, second in outlines], dtype=np.float64)


def _outlines(masks: BoolArray) -> BoolArray:
    """Pixels whose right, lower or lower right neighbor is on the other side, bool ``[F, H, W]``."""
    padded = np.pad(masks, ((0, 0), (0, 1), (0, 1)), mode="edge")
    right, below, beyond = padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    return (masks ^ right) | (masks ^ below) | (masks ^ beyond)


def _f_measure(first: BoolArray, second: BoolArray, reach: int) -> float:
    """F of one frame's outlines, bool ``[H, W]``."""
    rows = np.flatnonzero((first | second).any(axis=1))
    columns = np.flatnonzero((first | second).any(axis=0))
    if len(rows) == 0:
        return math.nan
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    precision, recall = (_found(first[window], second[window], reach), _found(second[window], first[window], reach))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _found(outline: BoolArray, other: BoolArray, reach: int) -> float:
    """Share of an outline that has the other within reach; of none, none is found."""
    if not outline.any() or not other.any():
        return 0.0
    return float((ndimage.distance_transform_edt(~other)[outline] <= reach).mean())
