"""Tiny C2F-Seg networks, and clips of a shape that moves behind a bar."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.models.c2f_seg.config import (
    AutoencoderConfig,
    BackboneConfig,
    C2FSegConfig,
    RefinementConfig,
    TransformerConfig,
)
from amodal_diffusion.types import BoolArray

TINY = C2FSegConfig(
    size=64,
    autoencoder=AutoencoderConfig((16, 16, 32, 32), 1, latent_channels=32, num_codes=64, norm_num_groups=8),
    backbone=BackboneConfig(16, (16, 32, 48, 64), (1, 1, 1, 1), "basic"),
    transformer=TransformerConfig(64, layers=2, heads=4, window=(4, 2, 2)),
    refinement=RefinementConfig((32, 32, 16, 16, 8)),
)
SMALL = replace(TINY, size=32, autoencoder=replace(TINY.autoencoder, block_out_channels=(16, 16, 32)))
IMAGE = replace(SMALL, transformer=replace(SMALL.transformer, window=None))


def moving_shape(seed: int, *, frames: int = 4, size: int = 64) -> AmodalSample:
    """A textured ellipse, rectangle or triangle that moves sideways behind a bar, before a textured background."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    half = size * rng.uniform(0.2, 0.3, 2)
    middle, start, speed = size * rng.uniform(0.4, 0.6), size * rng.uniform(0.32, 0.42), size * 0.06
    texture, behind = (_texture(rng, size) for _ in range(2))
    left = round(size * 0.46)
    bar = np.zeros((size, size), dtype=np.bool_)
    bar[:, left : left + round(size * 0.19)] = True
    amodal = np.stack([_outline(seed % 3, rows - middle, columns - start - speed * t, half) for t in range(frames)])
    rgb = np.where(amodal[..., None], texture, behind)
    rgb[:, bar] = 40
    return AmodalSample(f"shape {seed}", amodal & ~bar, amodal, None, rgb.astype(np.uint8), None)


def _outline(kind: int, down: np.ndarray, right: np.ndarray, half: np.ndarray) -> BoolArray:
    y, x = down / half[0], right / half[1]
    if kind == 0:
        return np.asarray(x**2 + y**2 < 1)
    if kind == 1:
        return np.asarray((abs(x) < 1) & (abs(y) < 1))
    return np.asarray((abs(y) < 1) & (abs(x) < (1 + y) / 2))


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    cells = np.kron(rng.integers(0, 60, (8, 8, 3)), np.ones((size // 8, size // 8, 1)))
    return np.asarray(np.clip(cells + rng.integers(40, 190, 3), 0, 255))


def masks_of(samples: list[AmodalSample], part: str) -> torch.Tensor:
    """Masks ``modal`` or ``amodal`` of clips, float32 ``[B, F, 1, H, W]``."""
    return torch.stack([torch.from_numpy(getattr(sample, part)).float()[:, None] for sample in samples])


def images_of(samples: list[AmodalSample]) -> torch.Tensor:
    """Frames of clips, float32 ``[B, F, 3, H, W]`` in 0..1."""
    frames = [torch.from_numpy(np.asarray(sample.rgb)).permute(0, 3, 1, 2) for sample in samples]
    return torch.stack(frames).float() / 255


def iou(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean IoU of bool masks ``[..., H, W]``; a pair of empty masks is left out."""
    both, either = ((one & other), (one | other))
    joint, union = both.flatten(-2).sum(-1).float(), either.flatten(-2).sum(-1).float()
    return float((joint / union)[union > 0].mean())


def half_size_ceiling(masks: torch.Tensor) -> float:
    """IoU of masks ``[N, 1, S, S]`` with themselves after halving and nearest enlarging."""
    small = F.interpolate(masks, scale_factor=0.5, mode="nearest")
    return iou(F.interpolate(small, scale_factor=2, mode="nearest") > 0.5, masks > 0.5)
