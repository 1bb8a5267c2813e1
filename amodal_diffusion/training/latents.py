"""From clips to what the loss needs: condition noise on the pixels, then latents and tokens of the frozen networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from amodal_diffusion.models.conditioning import build_conditions
from amodal_diffusion.models.latents import Autoencoder, encode_video
from amodal_diffusion.training.dataset import TaskBatch
from amodal_diffusion.training.latent_cache import LatentCache
from amodal_diffusion.training.settings import NoiseSettings


@dataclass(frozen=True)
class LatentBatch:
    """Encoded clips.

    Attributes:
        target: amodal video, ``[B, F, 4, h, w]``, multiplied by the VAE's scaling factor.
        modal: modal video with condition noise, ``[B, F, 4, h, w]``, not multiplied.
        guide: guide with condition noise, as ``modal``; zero for clips without one.
        tokens: image-encoder tokens of the clean modal video, ``[B, F, D]``.
        noise_aug_strength: strength of the condition noise, ``[B]``.
    """

    target: Tensor
    modal: Tensor
    guide: Tensor
    tokens: Tensor
    noise_aug_strength: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> LatentBatch:
        """Move all tensors to a device, in one dtype."""
        return LatentBatch(**{entry.name: getattr(self, entry.name).to(device, dtype) for entry in fields(self)})


@torch.no_grad()
def encode_batch(
    batch: TaskBatch,
    *,
    vae: Autoencoder,
    image_encoder: CLIPVisionModelWithProjection,
    noise: NoiseSettings,
    generators: Sequence[torch.Generator],
    cache: LatentCache | None = None,
) -> LatentBatch:
    """Draw the condition noise of each clip, ``ln s ~ N(mean, std^2)``, and encode.

    The noise is on the pixels of the conditions, so these are encoded each time; target and tokens are made of clean
    pixels and can come from a cache.

    Args:
        batch: ``B`` clips.
        vae: frozen autoencoder.
        image_encoder: frozen image encoder.
        noise: mean and standard deviation of ``ln s``.
        generators: one a clip, on the batch's device: a clip's noise does not depend on its neighbors.
        cache: filled by the same networks; what it does not hold is computed.

    Returns:
        float32 tensors on the networks' device.
    """
    draws = [torch.randn(1, generator=generator, device=generator.device) for generator in generators]
    strength = torch.exp(noise.condition_log_mean + noise.condition_log_std * torch.cat(draws))  # [B]
    conditions = build_conditions(
        batch.modal,
        batch.guide,
        vae=vae,
        image_encoder=image_encoder,
        noise_aug_strength=strength,
        generator=generators,
        tokens=None if cache is None else cache.tokens(batch.modal),
    )
    modal, guide = conditions.latents.chunk(2, dim=2)  # [B, F, 4, h, w] each
    target = encode_video(vae, batch.amodal) if cache is None else cache.latents(batch.amodal)
    return LatentBatch(
        target=target * vae.config.scaling_factor,
        modal=modal,
        guide=guide * batch.guide_present.to(guide)[:, None, None, None, None],
        tokens=conditions.tokens,
        noise_aug_strength=strength,
    )


def drop_guide(batch: LatentBatch, share: float, *, generators: Sequence[torch.Generator]) -> LatentBatch:
    """Drop the guide of a share of the clips, so that the model also works without one.

    Args:
        batch: ``B`` clips.
        share: chance of each clip, 0 to 1.
        generators: one a clip.

    Returns:
        the batch, with guide latents of zero where the guide is dropped.
    """
    draws = [torch.rand(1, generator=generator, device=generator.device) for generator in generators]
    keep = torch.cat(draws).to(batch.guide.device) >= share
    return replace(batch, guide=batch.guide * keep[:, None, None, None, None])


def reverse_time(batch: LatentBatch, share: float, *, generators: Sequence[torch.Generator]) -> LatentBatch:
    """Play a share of the clips backwards, which makes another clip of each without encoding it.

    Args:
        batch: ``B`` clips.
        share: chance of each clip, 0 to 1.
        generators: one a clip; nothing is drawn where the share is 0.

    Returns:
        the batch with the frames of those clips in reverse order.
    """
    if share == 0:
        return batch
    draws = [torch.rand(1, generator=generator, device=generator.device) for generator in generators]
    backwards = torch.cat(draws).to(batch.target.device) < share

    def turned(values: Tensor) -> Tensor:
        return torch.where(backwards.view(-1, *[1] * (values.ndim - 1)), values.flip(1), values)

    frames = ("target", "modal", "guide", "tokens")
    return replace(batch, **{name: turned(getattr(batch, name)) for name in frames})


def join_latents(batches: Sequence[LatentBatch]) -> LatentBatch:
    """Join batches of clips of one size."""
    return LatentBatch(
        **{entry.name: torch.cat([getattr(batch, entry.name) for batch in batches]) for entry in fields(LatentBatch)}
    )
