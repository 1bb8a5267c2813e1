"""Color from the first step: weights that carry it, latents that are held to it, and pictures of every hue."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn

COLOR_AXES = 1.4 * torch.tensor([[0.33, 0.55, 0.22], [1.0, 0.0, -1.0], [-0.5, 1.0, -0.5]])
"""Luma and two axes of chroma, as rows of a matrix on red, green and blue in [-1, 1]."""
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def color_anchor(pixels: Tensor, axes: Tensor) -> Tensor:
    """Luma and chroma of the mean color of each 4x4 cell, ``[N, 3, H, W]`` in [-1, 1] to ``[N, 3, H/4, W/4]``."""
    return torch.einsum("ij,njhw->nihw", axes, F.avg_pool2d(pixels, 4))


@torch.no_grad()
def carry_colors(vae: AutoencoderTiny) -> None:
    """Set weights so that three latent channels are the anchors and the decoder draws them again; in place.

    Three channels carry red, green and blue through the encoder: the identity, means of 2x2 pixels where it halves the
    picture, nothing added by residual blocks. The last convolution turns them to the axes; the decoder's first one
    turns them back. Other weights into these outputs are small.

    Args:
        vae: with two levels that halve the picture, as `build_autoencoder` makes it.
    """
    back = torch.linalg.inv(COLOR_AXES)
    for layers, encodes in ((vae.encoder.layers, True), (vae.decoder.layers, False)):
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        for block in layers:
            if hasattr(block, "conv"):  # a residual block adds nothing to these channels
                block.conv[-1].weight[:3] = 0
                block.conv[-1].bias[:3] = 0
        for layer in convolutions[1:-1]:
            _pass_through(layer)
        first, last = convolutions[0], convolutions[-1]
        first.weight[:3] = 0
        first.weight[:3, :3, 1, 1] = torch.eye(3) if encodes else back / 2
        first.bias[:3] = 0 if encodes else 0.5  # the layers between work on [0, 1]
        last.weight[:3] *= 0.05
        last.weight[:3, :3] = 0
        last.weight[:3, :3, 1, 1] = 2 * COLOR_AXES if encodes else torch.eye(3)
        last.bias[:3] = -COLOR_AXES.sum(dim=1) if encodes else torch.zeros(3)


def _pass_through(layer: nn.Conv2d) -> None:
    layer.weight[:3] = 0
    for channel in range(3):
        if layer.stride == (2, 2):
            layer.weight[channel, channel, 1:, 1:] = 0.25
        else:
            layer.weight[channel, channel, 1, 1] = 1.0
    if layer.bias is not None:
        layer.bias[:3] = 0


def rotate_hue(video: Tensor, angle: float) -> Tensor:
    """Turn all hues; gray and white stay.

    Args:
        video: float ``[F, 3, H, W]`` in [-1, 1].
        angle: radians.
    """
    if angle == 0.0:
        return video
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    turn = torch.tensor([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    matrix = torch.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
    return torch.einsum("ij,fjhw->fihw", matrix, video).clamp(-1.0, 1.0)


def swatches(count: int, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Discs of one or two colors of any hue on white, halved or striped.

    Args:
        count: number of pictures.
        size: side in pixels.
        rng: source of randomness.

    Returns:
        float ``[count, 3, size, size]`` in [-1, 1], and where they are colored, float ``[count, 1, size, size]``.
    """
    one, two = (_drawn_colors(count, rng) for _ in range(2))
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    angle, shift, pace, reach = (
        torch.from_numpy(rng.uniform(low, high, (count, 1, 1)).astype(np.float32))
        for low, high in ((0.0, 2 * np.pi), (-0.5, 0.5), (0.0, 3.0), (0.3, 1.2))
    )
    across = angle.cos() * line[None, None] + angle.sin() * line[None, :, None] + shift
    striped = torch.from_numpy(rng.random((count, 1, 1)) < 0.5)
    split = torch.where(striped, (across * pace.exp() * 3).sin() > 0, across > 0)[:, None].float()
    inside = (line[None, None] ** 2 + line[None, :, None] ** 2 < reach**2)[:, None].float()
    return (one * (1 - split) + two * split) * inside + (1 - inside), inside


def _drawn_colors(count: int, rng: np.random.Generator) -> Tensor:
    """Colors with hues, saturations and values drawn apart, ``[count, 3, 1, 1]`` in [-1, 1]."""
    hue = torch.from_numpy(rng.uniform(0.0, 6.0, count).astype(np.float32))
    saturation = torch.from_numpy(rng.random((count, 1)).astype(np.float32)).sqrt()
    value = 0.15 + 0.85 * torch.from_numpy(rng.random((count, 1)).astype(np.float32))
    pure = torch.stack([((hue + k).remainder(6) - 3).abs().sub(1).clamp(0, 1) for k in (0, 4, 2)], dim=1)
    return (value * (1 - saturation + saturation * pure) * 2 - 1)[..., None, None]
