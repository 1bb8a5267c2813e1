"""How well hidden appearance is painted: PSNR where the object is hidden, beside the simplest filling."""

from __future__ import annotations

import math

import numpy as np

from amodal_diffusion.types import BoolArray, UInt8Array

_PEAK = 255.0
_CEILING = 99.0  # dB; equal frames would be infinite, and so would any mean with them


def fill_with_mean_colour(rgb: UInt8Array, modal_mask: BoolArray) -> UInt8Array:
    """Paint every pixel with the mean colour of the object's visible pixels in the clip.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal_mask: visible part, bool ``[F, H, W]``, not empty in every frame.

    Returns:
        uint8 ``[F, H, W, 3]`` of one colour.
    """
    colour = rgb[modal_mask].mean(axis=0)
    return np.broadcast_to(np.rint(colour).astype(np.uint8), rgb.shape)


def hidden_psnr(predicted: UInt8Array, truth: UInt8Array, hidden: BoolArray) -> float:
    """Peak signal-to-noise ratio over the hidden pixels of a whole clip, in dB.

    Args:
        predicted: the whole object, uint8 ``[F, H, W, 3]``.
        truth: the whole object, uint8 ``[F, H, W, 3]``.
        hidden: amodal minus modal, bool ``[F, H, W]``.

    Returns:
        Decibels, at most 99; NaN where nothing is hidden.
    """
    if not hidden.any():
        return math.nan
    error = predicted[hidden].astype(np.float64) - truth[hidden].astype(np.float64)
    squared = float(np.mean(error**2))
    return _CEILING if squared == 0 else min(_CEILING, 10 * math.log10(_PEAK**2 / squared))
