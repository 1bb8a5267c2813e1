"""Errors of the tools that give masks and depth, on batches of clips and any device; each clip has its own draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amodal_diffusion.synthetic.rng import Rng


@dataclass(frozen=True)
class ErrorShares:
    """Which share of the clips has errors; the others are exact.

    Attributes:
        masks: share of the clips whose modal masks are as a segmenter gives them, 0 to 1.
        depth: share of the clips whose depth is as a depth network estimates it, 0 to 1.
    """

    masks: float = 0.0
    depth: float = 0.0


class _Noise:
    """Draws of several clips as tensors that broadcast over ``[N, T, H, W]``."""

    def __init__(self, rngs: Sequence[Rng], device: torch.device) -> None:
        self.rngs, self.device = rngs, device

    def draw(self, low: float, high: float, *shape: int) -> Tensor:
        """Independent values, float32 ``[N, *shape]``, with trailing axes of one up to four axes."""
        values = np.stack([rng.array(shape or (1,), low, high) for rng in self.rngs]).astype(np.float32)
        return torch.from_numpy(values).to(self.device).reshape(len(self.rngs), *shape, *[1] * (3 - len(shape)))

    def chance(self, probability: float) -> Tensor:
        """Bool ``[N, 1, 1, 1]``."""
        return self.draw(0.0, 1.0) < probability

    def smooth(self, shape: tuple[int, ...], cells: tuple[int, int, int]) -> Tensor:
        """Noise in [-1, 1] that changes over so many frames, rows and columns, ``[N, T, H, W]``."""
        counts = [-(-size // cell) + 1 for size, cell in zip(shape[1:], cells, strict=True)]
        draws = self.draw(-1.0, 1.0, *counts)
        return F.interpolate(draws[:, None], shape[1:], mode="trilinear", align_corners=True)[:, 0]


def segmented(modal: Tensor, other: Tensor, rngs: Sequence[Rng]) -> Tensor:
    """Modal masks with the errors of a segmenter.

    Borders move by up to about two pixels, alike in frames that follow each other; holes open where the object meets
    nothing, specks appear beside it; part of what touches the object is taken for it for a few frames; thin parts get
    lost; and in one of ten clips one frame has no mask. A frame's mask that would lose a third of its pixels, or
    double, stays exact.

    Args:
        modal: exact, bool ``[N, T, H, W]``.
        other: what is in front of the object, bool ``[N, T, H, W]``.
        rngs: a stream of each clip.

    Returns:
        bool ``[N, T, H, W]``; no clip becomes empty.
    """
    noise = _Noise(rngs, modal.device)
    exact = modal.float()
    soft = _box(_box(exact, 3), 3)
    shift = noise.draw(-0.1, 0.1) + noise.draw(0.1, 0.45) * noise.smooth(modal.shape, (3, 5, 5))
    rough = soft > (0.5 + shift).clamp(0.03, 0.97)
    spots = noise.smooth(modal.shape, (2, 4, 4))
    rough &= (spots < noise.draw(0.7, 0.9)) | noise.chance(0.5)
    near = _box(exact, 5) > 0.05
    rough |= near & (spots < -noise.draw(0.7, 0.9)) & noise.chance(0.5)
    spread = noise.smooth(modal.shape, (4, 12, 12)) > noise.draw(0.45, 0.8)
    rough |= other & (_box(exact, 9) > 0.02) & spread & noise.chance(0.35)
    opened = _box(exact, 5) > noise.draw(0.3, 0.5)
    rough &= opened | noise.chance(0.8)
    before, kept = exact.sum(dim=(2, 3), keepdim=True), (rough & modal).sum(dim=(2, 3), keepdim=True)
    after = rough.sum(dim=(2, 3), keepdim=True)
    rough = torch.where((3 * kept < 2 * before) | (after > 2 * before), modal, rough)
    frames = modal.shape[1]
    lost = (noise.draw(0.0, 1.0) * frames).long().clamp(max=frames - 1)
    missed = noise.chance(0.1) & (torch.arange(frames, device=modal.device)[:, None, None] == lost)
    missed &= (rough & ~missed).any(dim=3).any(dim=2).any(dim=1)[:, None, None, None]
    return rough & ~missed


def estimated(depth: Tensor, rngs: Sequence[Rng]) -> Tensor:
    """Depth as a network estimates it: [0, 1], nearer is larger.

    Each frame has its own scale and offset; slow waves; borders that are blurred and do not lie where the object's do;
    grain; a monotone curve, as between depth, disparity and their normalized forms; few levels.

    Args:
        depth: exact, float32 ``[N, T, H, W]``.
        rngs: a stream of each clip.
    """
    noise = _Noise(rngs, depth.device)
    low, high = depth.amin(dim=(1, 2, 3), keepdim=True), depth.amax(dim=(1, 2, 3), keepdim=True)
    values = (depth - low) / (high - low).clamp(min=1e-6)
    frames = depth.shape[1]

    def on(probability: float) -> Tensor:
        return noise.chance(probability).float()

    scale, offset = noise.draw(-1, 1, frames), noise.draw(-1, 1, frames)
    each = on(0.6) * noise.draw(0.0, 0.08)
    values = values * (1 + each * scale) + each * offset
    values = values + on(0.7) * noise.draw(0.0, 0.12) * noise.smooth(depth.shape, (4, 24, 24))
    values = torch.where(noise.chance(0.6), _box(values, 3), values)
    values = torch.where(noise.chance(0.3), _box(_box(values, 5), 3), values)
    wide = F.max_pool2d(values, 3, 1, 1)
    values = torch.where(noise.chance(0.3) & (noise.smooth(depth.shape, (8, 16, 16)) > 0.1), wide, values)
    values = values + on(0.4) * noise.draw(0.0, 0.05) * noise.smooth(depth.shape, (1, 2, 2))
    values = _curved(values.clamp(0, 1), noise)
    steps = torch.round(noise.draw(15, 255))
    values = torch.where(noise.chance(0.4), torch.round(values * steps) / steps, values)
    return values.clamp(0, 1)


def _curved(values: Tensor, noise: _Noise) -> Tensor:
    """One of: the identity, a power, disparity to negated depth, negated depth to disparity."""
    kind, power, nearest = noise.draw(0, 4).floor(), noise.draw(-1.3, 1.3), noise.draw(0.1, 0.6)
    curves = (
        values,
        values.clamp(min=1e-4) ** torch.exp2(power),
        values * (1 + nearest) / (values + nearest),
        values * nearest / (1 + nearest - values),
    )
    result = curves[0]
    for number, curve in enumerate(curves[1:], start=1):
        result = torch.where(kind == number, curve, result)
    return result


def _box(values: Tensor, size: int) -> Tensor:
    """Mean over a square of pixels, those of the frame alone."""
    return F.avg_pool2d(values, size, 1, size // 2, count_include_pad=False)
