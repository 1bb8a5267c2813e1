"""Masks of the frames between two that have one: the outline moves and changes evenly from the one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from scipy import ndimage

from amodal_diffusion.types import BoolArray, FloatArray


def fill_between(masks: Mapping[int, BoolArray]) -> dict[int, BoolArray]:
    """Fill the frames between the first and the last that have a mask.

    The shape between two masks is the mean of their signed distances, each laid where the centre is by then. It knows
    nothing of the picture: whoever uses it looks at what comes out. Between a mask and an empty one there is nothing.

    Args:
        masks: by frame, bool ``[H, W]``, all of one size; at least one.

    Returns:
        a mask for every frame from the first to the last; those that were given are as they were.
    """
    frames = sorted(masks)
    filled = {frames[-1]: masks[frames[-1]]}
    for first, last in pairwise(frames):
        filled[first] = masks[first]
        for frame in range(first + 1, last):
            filled[frame] = _between(masks[first], masks[last], (frame - first) / (last - first))
    return dict(sorted(filled.items()))


def _between(first: BoolArray, last: BoolArray, share: float) -> BoolArray:
    if not (first.any() and last.any()):
        return np.zeros_like(first)
    centres = [np.argwhere(mask).mean(axis=0) for mask in (first, last)]
    centre = (1 - share) * centres[0] + share * centres[1]
    distances = [
        ndimage.shift(_signed_distance(mask), centre - own, order=1, mode="nearest")
        for mask, own in zip((first, last), centres, strict=True)
    ]
    return np.asarray((1 - share) * distances[0] + share * distances[1] > 0)


def _signed_distance(mask: BoolArray) -> FloatArray:
    """Pixels to the outline, above 0 inside; float32 ``[H, W]``."""
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return np.asarray(inside - outside, np.float32)
