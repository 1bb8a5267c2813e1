"""What each frame says about an object: where it is seen, where it is not, and its colours."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

SEEN, ELSEWHERE = 0, 1
CHANNELS = 5
"""Seen, elsewhere, and three of colour."""
_FARTHEST_COLOUR = 3.0  # standard deviations


def gather_evidence(rgb: UInt8Array, modal: BoolArray, elsewhere: FloatArray, *, block: int = 1) -> FloatArray:
    """Stack a clip's evidence, averaged over blocks of pixels.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: visible part, bool ``[F, H, W]``, not empty in every frame.
        elsewhere: how sure it is that the object is not there, in [0, 1], float32 ``[F, H, W]``.
        block: pixels a side of a cell; what is left over at the right and lower rim belongs to a cell too.

    Returns:
        float32 ``[F, 5, ceil(H / block), ceil(W / block)]``: seen and elsewhere in [0, 1], then the colour where the
        object is seen (0 elsewhere), in standard deviations from its mean colour in the clip.
    """
    mean, spread = _palette(rgb, modal)
    rows, columns = np.arange(0, modal.shape[1], block), np.arange(0, modal.shape[2], block)
    evidence = np.empty((len(modal), CHANNELS, len(rows), len(columns)), dtype=np.float32)
    for frame, into in enumerate(evidence):  # a frame at a time: a long clip's colours as floats would not fit
        colour = np.clip((rgb[frame] - mean) / spread, -_FARTHEST_COLOUR, _FARTHEST_COLOUR) * modal[frame, ..., None]
        layers = np.concatenate([modal[frame][None], elsewhere[frame][None], colour.transpose(2, 0, 1)])
        if block > 1:
            layers = np.add.reduceat(np.add.reduceat(layers, rows, axis=1), columns, axis=2) / block**2
        into[:] = layers
    return evidence


def _palette(rgb: UInt8Array, modal: BoolArray) -> tuple[FloatArray, np.float32]:
    """Mean colour ``[3]`` of the visible pixels, and their standard deviation about it over all channels."""
    colours = rgb[modal].astype(np.float32)
    mean = colours.mean(axis=0)
    return mean, np.float32(np.sqrt(((colours - mean) ** 2).mean()) + 1.0)
