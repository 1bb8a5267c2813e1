"""A painted object that drifts and turns behind a bar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amodal_diffusion.propagation.placement import Placement, to_object
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

FRAMES, HEIGHT, WIDTH = 8, 60, 90
BAR = slice(40, 50)


@dataclass(frozen=True)
class Moving:
    """The clip and its truth.

    Attributes:
        rgb: frames, uint8 ``[F, H, W, 3]``; the bar is red, the ground is black.
        modal: visible part, bool ``[F, H, W]``.
        amodal: the whole object, bool ``[F, H, W]``.
        whole: the object without the bar, uint8 ``[F, H, W, 3]``.
        depth: nearer is larger, float32 ``[F, H, W]``.
        placements: of the object, float64 ``[F, 4]``.
    """

    rgb: UInt8Array
    modal: BoolArray
    amodal: BoolArray
    whole: UInt8Array
    depth: FloatArray
    placements: Placement

    @property
    def hidden(self) -> BoolArray:
        """What the bar hides, bool ``[F, H, W]``."""
        return self.amodal & ~self.modal


def moving(*, step: float = 3.3, brighter: float = 0.0) -> Moving:
    """Make it.

    Args:
        step: pixels that the object goes on in a frame.
        brighter: gray levels that each frame is brighter than the one before.
    """
    placements = np.asarray([[30.0 + 0.3 * at, 33.0 + step * at, 0.0, 0.03 * at] for at in range(FRAMES)])
    whole = np.zeros((FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    amodal = np.zeros(whole.shape[:3], dtype=np.bool_)
    for frame, placement in enumerate(placements):
        v, u = to_object(placement, np.arange(HEIGHT)[:, None] * 1.0, np.arange(WIDTH) * 1.0)
        amodal[frame] = (np.abs(v) < 17) & (np.abs(u) < 20 - 0.4 * v)
        tones = [
            110 + 60 * np.sin(0.45 * u),
            110 + 60 * np.sin(0.4 * v + 0.2 * u),
            100 + 40 * np.cos(0.3 * v - 0.4 * u),
        ]
        whole[frame] = np.clip(np.stack(tones, axis=-1) + brighter * frame, 0, 255).astype(np.uint8)
    bar = np.zeros_like(amodal)
    bar[:, :, BAR] = True
    rgb = np.where(amodal[..., None], whole, np.uint8(0))
    rgb[bar] = (200, 0, 0)
    depth = np.where(bar, np.float32(2), np.where(amodal, np.float32(1), np.float32(0)))
    return Moving(rgb, amodal & ~bar, amodal, whole, depth, placements)
