"""Training loss: EDM with v-prediction (docs/method.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from amodal_diffusion import edm
from amodal_diffusion.models.conditioning import Conditions, conditions_from_latents, drop_conditions
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.settings import NoiseSettings

_HIDDEN_DIFFERENCE = 0.5  # scaled latents have a deviation of about 1; condition noise moves them by less than 0.1
MOST_PIXEL_WEIGHT = 4.0
"""Largest weight of a noise level in the pixel loss. At low levels the exact weight, 1 / sigma^2, would multiply the
rounding of frames that are decoded in bfloat16."""


@dataclass(frozen=True)
class PixelLoss:
    """Weighted squared error of decoded frames.

    For an ambiguous shape, a network trained only on latents predicts the mean of the latents, which need not decode to
    the mean of the images. Trained on pixels, it predicts the probability that each pixel belongs to the object.

    Attributes:
        decode: decoder, scaled latents ``[B, F, 4, h, w]`` -> frames ``[B, F, 3, H, W]`` in about [-1, 1].
        weight: weight relative to the error of the latents.
        frames: number of frames of each clip to decode. They are consecutive, as a temporal decoder expects, and start
            at a random frame.
    """

    decode: Callable[[Tensor], Tensor]
    weight: float
    frames: int

    def __call__(
        self,
        denoised: Tensor,
        target: Tensor,
        generators: Sequence[torch.Generator],
        *,
        cells: Tensor | None = None,
    ) -> Tensor:
        """Weighted squared errors ``[B, n, 3, H, W]`` of ``n`` frames per clip; its generator draws the first one.

        Args:
            denoised: latents of the network, scaled, ``[B, F, 4, h, w]``.
            target: the true ones.
            generators: one per clip.
            cells: weight of each latent cell's pixels, ``[B, F, 1, h, w]``; None for 1.
        """
        total = target.shape[1]
        count = min(self.frames, total)
        starts = [torch.randint(total - count + 1, (1,), generator=g, device=g.device) for g in generators]
        places = (torch.stack(starts) + torch.arange(count, device=starts[0].device)).to(target.device)  # [B, n]
        rows = torch.arange(len(target), device=target.device)[:, None]
        with torch.no_grad():
            wanted = self.decode(target[rows, places])
        error = self.weight * (self.decode(denoised[rows, places]) - wanted).square()
        if cells is None:
            return error
        chosen = functional.interpolate(cells[rows, places].flatten(0, 1), size=error.shape[-2:], mode="nearest")
        return error * chosen.unflatten(0, error.shape[:2])


@dataclass(frozen=True)
class HiddenWeight:
    """Weights latent cells by what the modal condition does not show of them, as most of a clip is visible or empty.

    A cell is hidden as far as the target's latents differ from those of the modal video, fully from a mean difference
    of `_HIDDEN_DIFFERENCE` on. The weights of a clip have a mean of 1.

    Attributes:
        weight: weight of a hidden cell beside 1 for every cell.
        scaling_factor: of the VAE, by which the target's latents are multiplied and the condition's are not.
    """

    weight: float
    scaling_factor: float

    def __call__(self, batch: LatentBatch) -> Tensor:
        """Weights of the cells of a batch, ``[B, F, 1, h, w]``."""
        difference = (batch.target - self.scaling_factor * batch.modal).abs().mean(dim=2, keepdim=True)
        cells = 1.0 + self.weight * (difference / _HIDDEN_DIFFERENCE).clamp(max=1.0)
        return cells / cells.mean(dim=(1, 2, 3, 4), keepdim=True)


def training_loss(
    unet: nn.Module,
    batch: LatentBatch,
    *,
    noise: NoiseSettings,
    conditioning_dropout: float,
    generators: Sequence[torch.Generator],
    pixels: PixelLoss | None = None,
    hidden: HiddenWeight | None = None,
) -> Tensor:
    """Mean over clips of the weighted squared error of the denoised latents.

    With ``x = y + sigma n``: ``loss = mean(weight(sigma) |D(x) - y|^2)``,
    ``D(x) = c_skip x + c_out F(c_in x, c_noise)``. Each clip has its own generator for noise level, noise and dropout,
    so its loss does not depend on the rest of the batch or the number of processes.

    Args:
        unet: the network ``F``, or a wrapper with the same call.
        batch: ``B`` clips, float32.
        noise: distribution of the noise levels.
        conditioning_dropout: ``p``, see :func:`~amodal_diffusion.models.conditioning.drop_conditions`.
        generators: one per clip.
        pixels: pixel loss to add; None for none.
        hidden: weights of hidden parts in both losses; None weighs all alike.

    Returns:
        float32 scalar.
    """
    target = batch.target  # y, [B, F, 4, h, w]
    cells = None if hidden is None else hidden(batch)
    draws = [_draw(target.shape[1:], noise, generator) for generator in generators]
    sigma = torch.cat([draw[0] for draw in draws]).to(target)[:, None, None, None, None]  # [B, 1, 1, 1, 1]
    noisy = target + sigma * torch.stack([draw[1] for draw in draws]).to(target)
    conditions = _conditions(batch, conditioning_dropout, generators)
    denoised = _denoised(unet, noisy, sigma, conditions)
    weight = edm.loss_weight(sigma)
    error = (denoised - target).square()
    loss = (weight * (error if cells is None else cells * error)).mean()
    if pixels is not None:
        shown = pixels(denoised, target, generators, cells=cells)
        loss = loss + (weight.clamp(max=MOST_PIXEL_WEIGHT) * shown).mean()
    return loss


def one_step_loss(
    unet: nn.Module,
    batch: LatentBatch,
    *,
    sigma: float,
    generators: Sequence[torch.Generator],
    pixels: PixelLoss | None = None,
) -> Tensor:
    """Mean over clips of the squared error of the clip that one step from noise of zero gives, ``|D(0) - y|^2``.

    The sampler with ``initial_noise="zero"`` computes the same ``D(0) = c_out F(0, c_noise)``. At the highest noise
    level the loss weight is 1 to within 1e-5, so it is left out.

    Args:
        unet: the network ``F``, or a wrapper with the same call.
        batch: ``B`` clips, float32.
        sigma: noise level that the step starts from, the highest of the sampling schedule.
        generators: one per clip; they draw the frames of the pixel loss.
        pixels: pixel loss to add; None for none.

    Returns:
        float32 scalar.
    """
    target = batch.target  # y, [B, F, 4, h, w]
    level = torch.full((len(target), 1, 1, 1, 1), sigma, device=target.device)
    conditions = _conditions(batch, 0.0, generators)
    denoised = _denoised(unet, torch.zeros_like(target), level, conditions)
    loss = (denoised - target).square().mean()
    return loss if pixels is None else loss + pixels(denoised, target, generators).mean()


def _denoised(unet: nn.Module, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
    """``D(x) = c_skip x + c_out F(c_in x, c_noise)``, float32 ``[B, F, 4, h, w]``, for levels ``[B, 1, 1, 1, 1]``."""
    output = unet(
        torch.cat([edm.c_in(sigma) * noisy, conditions.latents], dim=2),  # [B, F, 12, h, w]
        edm.c_noise(sigma).flatten(),
        encoder_hidden_states=conditions.tokens,
        added_time_ids=conditions.added_time_ids,
        return_dict=False,
    )[0]
    return edm.c_skip(sigma) * noisy + edm.c_out(sigma) * output.float()


def _draw(shape: Sequence[int], noise: NoiseSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise level ``[1]`` and unit noise of one clip."""
    sigma = edm.sample_mixed_sigma(
        edm.sample_sigma(1, log_mean=noise.sigma_log_mean, log_std=noise.sigma_log_std, generator=generator),
        highest_share=noise.highest_share,
        uniform_share=noise.uniform_share,
        generator=generator,
    )
    return sigma, torch.randn(tuple(shape), generator=generator, device=generator.device)


def _conditions(batch: LatentBatch, dropout: float, generators: Sequence[torch.Generator]) -> Conditions:
    conditions = conditions_from_latents(
        batch.modal, batch.guide, batch.tokens, noise_aug_strength=batch.noise_aug_strength
    )
    if dropout == 0:
        return conditions
    kept = [
        drop_conditions(_row(conditions, index), dropout, generator=generator)
        for index, generator in enumerate(generators)
    ]
    return replace(
        conditions,
        latents=torch.cat([entry.latents for entry in kept]),
        tokens=torch.cat([entry.tokens for entry in kept]),
    )


def _row(conditions: Conditions, index: int) -> Conditions:
    rows = slice(index, index + 1)
    return Conditions(conditions.latents[rows], conditions.tokens[rows], conditions.added_time_ids[rows])
