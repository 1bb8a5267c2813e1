"""Seam blending: a painting is shifted towards the colors beside it, by what it gets wrong where the truth is seen."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from amodal_diffusion.frames.transforms import resize
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

CELLS = 96
"""Largest number of cells along a side of the box; larger boxes are averaged over blocks of pixels."""
SCALES = (1.0, 4.0, 16.0)
"""Standard deviations of the local means of the error, in cells."""
COARSER = 0.03
"""Weight of each local mean relative to the next finer one, which counts as far as it reaches."""


def blend_seams(painted: UInt8Array, rgb: UInt8Array, known: BoolArray, wanted: BoolArray) -> UInt8Array:
    """Carry the painting's error at known pixels over to wanted ones, and take it off.

    The error beside a seam is what makes the seam visible. It is averaged at three scales: next to a known pixel its
    own error counts most, and far from all of them the mean of all.

    Args:
        painted: uint8 ``[H, W, 3]``, at known and wanted pixels.
        rgb: true colors, uint8 ``[H, W, 3]``.
        known: where ``rgb`` is the painting's truth, bool ``[H, W]``; its border, where colors mix, does not count.
        wanted: pixels that are shifted, bool ``[H, W]``.

    Returns:
        ``painted`` with other colors at wanted pixels.
    """
    inner = ndimage.binary_erosion(known, border_value=1)
    if not inner.any() or not wanted.any():
        return painted
    block = -(-max(known.shape) // CELLS)
    error = np.where(inner[..., None], rgb.astype(np.float32) - painted, np.float32(0))
    layers = _averaged(np.concatenate([error, inner[..., None].astype(np.float32)], axis=-1), block)
    total = np.zeros_like(layers)
    for number, scale in enumerate(SCALES):
        blurred = ndimage.gaussian_filter(layers, (scale, scale, 0), mode="constant")
        total += np.float32(COARSER**number) * blurred
    mean = layers[..., :3].sum(axis=(0, 1)) / layers[..., 3].sum()
    least = np.float32(COARSER ** len(SCALES))
    shift = (total[..., :3] + least * mean) / (total[..., 3:] + least)
    planes = resize(torch.from_numpy(shift.transpose(2, 0, 1))[None], (shift.shape[0] * block, shift.shape[1] * block))
    shifted = painted.copy()
    moved = painted[wanted] + planes[0, :, : known.shape[0], : known.shape[1]].permute(1, 2, 0).numpy()[wanted]
    shifted[wanted] = np.rint(moved.clip(0, 255)).astype(np.uint8)
    return shifted


def _averaged(layers: FloatArray, block: int) -> FloatArray:
    """Means of ``[H, W, C]`` over blocks of pixels, filled up with 0 at the border."""
    height, width = layers.shape[:2]
    padded = np.pad(layers, ((0, -height % block), (0, -width % block), (0, 0)))
    blocks = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block, -1)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)
