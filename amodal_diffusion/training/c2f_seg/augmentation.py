"""Random blur, dilation and erosion of modal masks, as C2F-Seg trains on them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal_diffusion.training.c2f_seg.settings import AugmentationSettings

_PUBLISHED_SIZE = 256
_BLUR_KERNEL, _BLUR_SIGMA = 35, 11.0
_LEAST_KERNEL, _LARGEST_KERNEL = 5, 13
_MOST_REPEATS = 4


def augment_masks(masks: Tensor, settings: AugmentationSettings, *, generator: torch.Generator) -> Tensor:
    """Change the mask of each frame at random, for itself; a mask that would vanish stays as it is.

    Kernels are given for crops of 256 pixels and scaled to the crop at hand.

    Args:
        masks: float ``[F, 1, S, S]``, 0 or 1.
        settings: probabilities.
        generator: on the CPU.

    Returns:
        float ``[F, 1, S, S]``, 0 or 1.
    """
    changed = [_augment(mask[None], settings, generator) for mask in masks]
    return torch.cat([new if new.any() else old[None] for new, old in zip(changed, masks, strict=True)])


def _augment(mask: Tensor, settings: AugmentationSettings, generator: torch.Generator) -> Tensor:
    chance = _uniform(generator)
    if chance < settings.blur:
        return blur(mask)
    if chance >= settings.blur + settings.morph:
        return mask
    change = dilate if _uniform(generator) < settings.dilate else erode
    scale = mask.shape[-1] / _PUBLISHED_SIZE
    for _ in range(_integer(1, _MOST_REPEATS, generator)):
        height, width = (max(1, round(scale * _integer(_LEAST_KERNEL, _LARGEST_KERNEL, generator))) for _ in range(2))
        mask = change(mask, height, width)
        if _uniform(generator) < settings.blur_after:
            mask = blur(mask)
    return mask


def blur(masks: Tensor) -> Tensor:
    """Blur masks ``[N, 1, S, S]`` with a Gaussian and cut them at one half; the border continues beyond the crop."""
    scale = masks.shape[-1] / _PUBLISHED_SIZE
    half = max(1, round(_BLUR_KERNEL * scale) // 2)
    places = torch.arange(-half, half + 1, dtype=masks.dtype)
    kernel = torch.exp(-(places**2) / (2 * (_BLUR_SIGMA * scale) ** 2))
    kernel = kernel / kernel.sum()
    padded = F.pad(masks, (half, half, half, half), mode="replicate")
    across = F.conv2d(padded, kernel.reshape(1, 1, 1, -1))
    return (F.conv2d(across, kernel.reshape(1, 1, -1, 1)) >= 0.5).to(masks.dtype)


def dilate(masks: Tensor, height: int, width: int) -> Tensor:
    """Dilate masks ``[N, 1, S, S]`` by a box; what is outside the crop does not count."""
    before, left = height // 2, width // 2
    padded = F.pad(masks, (left, width - 1 - left, before, height - 1 - before))
    return F.max_pool2d(padded, (height, width), stride=1)


def erode(masks: Tensor, height: int, width: int) -> Tensor:
    """Erode masks ``[N, 1, S, S]`` by a box; the border of the crop does not erode."""
    return 1 - dilate(1 - masks, height, width)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))
