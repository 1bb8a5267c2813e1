"""Where something may hide the object: pixels that are nearer than it."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.types import BoolArray, FloatArray, InputError


def nearer_pixels(modal: BoolArray, depth: FloatArray) -> BoolArray:
    """Pixels that are nearer than the median of the object's visible pixels in the same frame.

    A frame that shows nothing of the object takes the median of the nearest frame (the earlier of two) that does.

    Args:
        modal: visible part, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``.

    Returns:
        bool ``[F, H, W]``; nothing if the object is never visible.

    Raises:
        InputError: if the shapes differ.
    """
    if depth.shape != modal.shape:
        raise InputError(f"depth: expected the modal mask's shape {list(modal.shape)}, got {list(depth.shape)}")
    shown = np.flatnonzero(modal.any(axis=(1, 2)))
    if len(shown) == 0:
        return np.zeros_like(modal)
    medians = np.asarray([np.median(depth[frame][modal[frame]]) for frame in shown])
    nearest = np.abs(np.arange(len(modal))[:, None] - shown).argmin(axis=1)
    return np.asarray(depth > medians[nearest][:, None, None])
