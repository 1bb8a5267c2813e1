"""Draw objects over frames, an outline around what can be seen and stripes over what hides, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

# Rare in nature, and told apart by most people, on dark and on bright pictures.
COLOURS = (
    (255, 80, 170),
    (86, 200, 255),
    (255, 196, 0),
    (0, 220, 150),
    (255, 120, 60),
    (190, 140, 255),
    (90, 130, 255),
)


@dataclass(frozen=True)
class OverlayLayer:
    """One object in one frame.

    Attributes:
        visible: what can be seen of it, bool ``[H, W]``.
        amodal: all of it, bool ``[H, W]``.
    """

    visible: BoolArray
    amodal: BoolArray


def draw_overlay(rgb: UInt8Array, layers: Sequence[OverlayLayer]) -> UInt8Array:
    """Draw all objects over a frame, each in its own colour.

    Args:
        rgb: the frame, uint8 ``[H, W, 3]``.
        layers: one an object, always in the same order, from which its colour follows.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    canvas = rgb.copy()
    height, width = rgb.shape[:2]
    line = max(1, round(min(height, width) / 260))
    for index, layer in enumerate(layers):
        _draw(canvas, layer, np.array(COLOURS[index % len(COLOURS)], np.float32), line)
    return canvas


def draw_uncertainty(probability: FloatArray) -> UInt8Array:
    """Draw where answers differ: black where all agree, white where half of them have a pixel.

    Args:
        probability: share of the answers that have a pixel, float32 ``[H, W]`` in [0, 1].

    Returns:
        uint8 ``[H, W, 3]``.
    """
    grey = np.rint(255 * (1 - np.abs(2 * probability - 1))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _draw(canvas: UInt8Array, layer: OverlayLayer, colour: npt.NDArray[np.float32], line: int) -> None:
    """Draw one object in place, inside its bounding box only."""
    rows, columns = (np.flatnonzero((layer.visible | layer.amodal).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return
    margin = 2 * line
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    box = np.s_[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin]
    visible, amodal, part = layer.visible[box], layer.amodal[box], canvas[box]

    hidden = amodal & ~visible
    across = np.add.outer(np.arange(part.shape[0]) + top, np.arange(part.shape[1]) + left)
    stripe = (across // (3 * line)) % 2 == 0
    _tint(part, hidden & stripe, colour, 0.75)
    _tint(part, hidden & ~stripe, colour, 0.4)

    edge = (amodal & ~_eroded(amodal, line)) | (visible & ~_eroded(visible, line))
    _tint(part, _grown(edge, max(1, line // 2)) & ~edge, np.zeros(3, np.float32), 0.6)  # seen on any background
    _tint(part, edge, colour, 1.0)


def _tint(part: UInt8Array, where: BoolArray, colour: npt.NDArray[np.float32], strength: float) -> None:
    part[where] = np.rint(part[where] * (1 - strength) + colour * strength).astype(np.uint8)


def _eroded(mask: BoolArray, steps: int) -> BoolArray:
    """Take ``steps`` pixels off along the edge, but not along the border of the array."""
    return ~_grown(~mask, steps)


def _grown(mask: BoolArray, steps: int) -> BoolArray:
    """Add ``steps`` pixels along the edge, up, down, left and right."""
    for _ in range(steps):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask
