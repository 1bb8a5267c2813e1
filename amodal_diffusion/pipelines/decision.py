"""From how likely each pixel is the object's to a mask: the one whose overlap with the truth should be largest."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.models.checkpoint import MOST, SamplingDefaults
from amodal_diffusion.types import BoolArray, FloatArray


def hidden_part(free: FloatArray, modal: BoolArray, sampling: SamplingDefaults) -> BoolArray:
    """What of a frame is taken for the hidden part of the object.

    Args:
        free: how surely the object goes on beyond what is visible, float32 ``[H, W]``, 1 for certain.
        modal: visible part, bool ``[H, W]``.
        sampling: says above which score, see its ``mask_threshold`` and ``visible_weight``.

    Returns:
        bool ``[H, W]``, nothing of it visible.
    """
    threshold = sampling.mask_threshold
    if sampling.visible_weight is not None:
        likely = np.clip(free[~modal], 0.0, 1.0)
        threshold = best_threshold(likely, int(modal.sum()), weight=sampling.visible_weight, least=threshold)
    hidden: BoolArray = (free > threshold) & ~modal
    return hidden


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
        least: no threshold is below this, above 0 and at most `MOST`.

    Returns:
        from ``least`` to `MOST`; pixels above it are taken.
    """
    levels = np.sort(likely[likely > least])[::-1]
    counts = np.append(np.flatnonzero(np.diff(levels)) + 1, len(levels))  # equal values are taken together or not
    sure = int((levels > MOST).sum())
    counts = np.append(sure, counts[counts > sure])
    sums = np.append(0.0, np.cumsum(levels, dtype=np.float64))[counts]
    known = weight * visible
    expected = (sums + known) / np.maximum(counts + float(likely.sum()) - sums + known, 1e-9)
    best = int(counts[expected.argmax()])
    return MOST if best == sure else float(np.nextafter(levels[best - 1], np.float32(0)))
