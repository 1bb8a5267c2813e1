"""EDM preconditioning with v-prediction at sigma_data = 1, and the noise levels that training draws.

One source for the loss and for the samplers: ``EulerDiscreteScheduler`` with v-prediction computes these same
scalings. Noisy input ``x = y + sigma n``; denoiser ``D(x) = c_skip x + c_out F(c_in x, c_noise)``.
(Karras et al. 2022, table 1; Stable Video Diffusion, section D.)
"""

from __future__ import annotations

import torch
from torch import Tensor

SIGMA_MIN, SIGMA_MAX = 0.002, 700.0
"""Lowest and highest noise level of Stable Video Diffusion's sampler."""


def sample_sigma(batch: int, *, log_mean: float, log_std: float, generator: torch.Generator) -> Tensor:
    """Draw one noise level a clip, ``ln sigma ~ N(log_mean, log_std^2)``.

    Args:
        batch: number of clips ``B``.
        log_mean: mean of ``ln sigma`` (0.7 in the paper).
        log_std: standard deviation of ``ln sigma`` (1.6 in the paper).
        generator: source of randomness; the result is on its device.

    Returns:
        float32 ``[B]``, positive.
    """
    normal = torch.randn(batch, generator=generator, device=generator.device)
    return torch.exp(log_mean + log_std * normal)


def sample_mixed_sigma(
    drawn: Tensor, *, highest_share: float, uniform_share: float, generator: torch.Generator
) -> Tensor:
    """Replace some noise levels by the sampler's highest one, and some by levels with uniform ``ln sigma``.

    Args:
        drawn: levels of :func:`sample_sigma`, float32 ``[B]``.
        highest_share: probability of the level `SIGMA_MAX`.
        uniform_share: probability of a level with ``ln sigma`` uniform from ``ln SIGMA_MIN`` to ``ln SIGMA_MAX``.
        generator: source of randomness; nothing is drawn if both shares are 0.

    Returns:
        float32 ``[B]``, positive.
    """
    if highest_share == uniform_share == 0.0:
        return drawn
    kind, place = torch.rand(2, *drawn.shape, generator=generator, device=generator.device).to(drawn)
    uniform = SIGMA_MIN * (SIGMA_MAX / SIGMA_MIN) ** place
    others = torch.where(kind < highest_share + uniform_share, uniform, drawn)
    return torch.where(kind < highest_share, SIGMA_MAX, others)


def c_skip(sigma: Tensor) -> Tensor:
    """Share of the noisy input kept in the denoised one, ``1 / (sigma^2 + 1)``."""
    return 1.0 / (sigma**2 + 1.0)


def c_out(sigma: Tensor) -> Tensor:
    """Scale of the network's output, ``-sigma / sqrt(sigma^2 + 1)``."""
    return -sigma / (sigma**2 + 1.0).sqrt()


def c_in(sigma: Tensor) -> Tensor:
    """Scale of the network's input, ``1 / sqrt(sigma^2 + 1)``."""
    return 1.0 / (sigma**2 + 1.0).sqrt()


def c_noise(sigma: Tensor) -> Tensor:
    """The noise level as the network is told it, ``ln(sigma) / 4``."""
    return 0.25 * sigma.log()


def loss_weight(sigma: Tensor) -> Tensor:
    """Weight of the squared error of the denoised clip, ``(1 + sigma^2) / sigma^2``."""
    return (1.0 + sigma**2) / sigma**2
