"""Adapters of SAM's image encoder (after SAM-Adapter): what they add to the tokens before each block."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal_diffusion.models.sam import SamShape


class Adapters(nn.Module):
    """Features of the tokens and of the image's high frequencies, projected for each block of the encoder.

    Args:
        shape: shape of SAM.
        reduction: channels of a token over channels inside.
    """

    def __init__(self, shape: SamShape, *, reduction: int) -> None:
        super().__init__()
        inside = shape.hidden_size // reduction
        self.token_projection = nn.Linear(shape.hidden_size, inside)
        self.frequency_projection = nn.Conv2d(3, inside, shape.patch_size, stride=shape.patch_size)
        self.layers = nn.ModuleList(nn.Linear(inside, inside) for _ in range(shape.layers))
        self.shared_projection = nn.Linear(inside, shape.hidden_size)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / (inside * shape.patch_size**2)))
            if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, pixels: Tensor, tokens: Tensor) -> list[Tensor]:
        """What to add to the tokens before each block; it depends on the image alone.

        Args:
            pixels: normalized and padded images, float ``[B, 3, S, S]``. The border of the padding is a strong high
                frequency, in the released code too.
            tokens: embedded patches before their position is added, float ``[B, h, w, C]``.

        Returns:
            a tensor like ``tokens`` per block.
        """
        frequencies = self.frequency_projection(high_pass(pixels))  # [B, r, h, w]
        features = self.token_projection(tokens) + frequencies.permute(0, 2, 3, 1)
        return [self.shared_projection(F.gelu(layer(features))) for layer in self.layers]


def high_pass_half_side(height: int, width: int) -> int:
    """Half the side of the square of low frequencies, a quarter of the spectrum: 256 of 1024."""
    return math.floor(math.sqrt(height * width * 0.25) / 2)


def high_pass(images: Tensor) -> Tensor:
    """Magnitude of images, float ``[B, C, H, W]``, without the lowest quarter of their frequencies."""
    height, width = images.shape[-2:]
    half = high_pass_half_side(height, width)
    with torch.autocast(images.device.type, enabled=False):  # there is no FFT in half precision for all sizes
        spectrum = torch.fft.fftshift(torch.fft.fft2(images.float()), dim=(-2, -1))
        keep = torch.ones(height, width, device=images.device)
        middle_row, middle_column = height // 2, width // 2
        keep[middle_row - half : middle_row + half, middle_column - half : middle_column + half] = 0
        filtered = torch.fft.ifft2(torch.fft.ifftshift(spectrum * keep, dim=(-2, -1))).real.abs()
    return filtered.to(images.dtype)
