"""Encoding of clips for the loss: noise on the condition pixels, then latents and tokens of the frozen networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from amodal_diffusion.models.conditioning import add_condition_noise, build_conditions
from amodal_diffusion.models.latents import Autoencoder, encode_video
from amodal_diffusion.training.dataset import TaskBatch, to_device
from amodal_diffusion.training.latent_cache import LatentCache
from amodal_diffusion.training.settings import NoiseSettings

_VIDEOS = ("target", "modal", "guide", "tokens")  # what a LatentBatch has of every frame


@dataclass(frozen=True)
class LatentBatch:
    """Encoded clips.

    Attributes:
        target: latents of the amodal video, ``[B, F, 4, h, w]``, multiplied by the VAE's scaling factor.
        modal: latents of the modal video with condition noise, ``[B, F, 4, h, w]``, not multiplied by the factor.
        guide: latents of the guide with condition noise, as ``modal``; zero for clips without one.
        tokens: image-encoder tokens of the clean modal video, ``[B, F, D]``.
        noise_aug_strength: strength of the condition noise, ``[B]``.
    """

    target: Tensor
    modal: Tensor
    guide: Tensor
    tokens: Tensor
    noise_aug_strength: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> LatentBatch:
        """Move all tensors to a device, and convert them to a dtype there."""
        return self._with_each(lambda value: to_device(value, device).to(dtype))

    def pin_memory(self) -> LatentBatch:
        """A copy in memory from which a GPU reads on its own; a `DataLoader` calls this."""
        return self._with_each(Tensor.pin_memory)

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> LatentBatch:
        return LatentBatch(**{entry.name: change(getattr(self, entry.name)) for entry in fields(self)})


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
    """Draw the condition noise of each clip, ``ln s ~ N(mean, std^2)``, and encode the clips.

    The noise is added to the pixels of the conditions, so these are encoded anew each time; under bfloat16, a VAE with
    ``force_upcast`` encodes them in bfloat16, as at inference, and the target in float32. Target and tokens depend only
    on clean pixels and can come from a cache. Clips without a guide have none encoded.

    Args:
        batch: ``B`` clips.
        vae: frozen autoencoder.
        image_encoder: frozen image encoder.
        noise: mean and standard deviation of ``ln s``.
        generators: one per clip, on the batch's device, so that a clip's noise does not depend on its batch.
        cache: cache of the same networks; missing entries are computed.

    Returns:
        float32 tensors on the networks' device.
    """
    draws = [torch.randn(1, generator=generator, device=generator.device) for generator in generators]
    strength = torch.exp(noise.condition_log_mean + noise.condition_log_std * torch.cat(draws))  # [B]
    present = batch.guide_present.tolist()
    conditions = build_conditions(
        batch.modal,
        batch.guide,
        vae=vae,
        image_encoder=image_encoder,
        noise_aug_strength=strength,
        generator=generators,
        tokens=None if cache is None else cache.tokens(batch.modal),
        guide_rows=[row if has_guide else None for row, has_guide in enumerate(present)],
    )
    for row, has_guide in enumerate(present):
        if not has_guide:  # a clip's later draws are the same with and without a guide
            add_condition_noise(batch.guide[row, None], strength[row, None], generator=[generators[row]])
    modal, guide = conditions.latents.chunk(2, dim=2)  # [B, F, 4, h, w] each
    target = encode_video(vae, batch.amodal) if cache is None else cache.latents(batch.amodal)
    return LatentBatch(
        target=target * vae.config.scaling_factor,
        modal=modal,
        guide=guide,
        tokens=conditions.tokens,
        noise_aug_strength=strength,
    )


def take_samples(batch: LatentBatch, samples: Sequence[Tensor | None]) -> LatentBatch:
    """Set the targets of clips to a teacher's samples.

    Args:
        batch: ``B`` clips.
        samples: for each clip scaled latents ``[F, 4, h, w]``, or None if it keeps its target; empty for none.
    """
    if not samples:
        return batch
    pairs = zip(batch.target, samples, strict=True)
    return replace(batch, target=torch.stack([own if taught is None else taught.to(own) for own, taught in pairs]))


def drop_guide(batch: LatentBatch, share: float, *, generators: Sequence[torch.Generator]) -> LatentBatch:
    """Drop the guide of a random share of the clips, so that the model also learns to work without one.

    Args:
        batch: ``B`` clips.
        share: probability for each clip, 0 to 1.
        generators: one per clip.

    Returns:
        the batch, with guide latents of zero where the guide is dropped.
    """
    draws = [torch.rand(1, generator=generator, device=generator.device) for generator in generators]
    keep = torch.cat(draws).to(batch.guide.device) >= share
    return replace(batch, guide=batch.guide * keep[:, None, None, None, None])


def cut_frames(batch: LatentBatch, frames: int, *, generators: Sequence[torch.Generator]) -> LatentBatch:
    """Cut each clip to consecutive frames from a random one on; a clip that is no longer stays whole.

    Args:
        batch: ``B`` clips.
        frames: number of frames to keep, at least 1.
        generators: one per clip.
    """
    total = batch.target.shape[1]
    if frames >= total:
        return batch
    starts = [int(torch.randint(total - frames + 1, (1,), generator=g, device=g.device)) for g in generators]

    def cut(values: Tensor) -> Tensor:
        return torch.stack([clip[start : start + frames] for clip, start in zip(values, starts, strict=True)])

    return replace(batch, **{name: cut(getattr(batch, name)) for name in _VIDEOS})


def reverse_time(batch: LatentBatch, share: float, *, generators: Sequence[torch.Generator]) -> LatentBatch:
    """Reverse a random share of the clips in time, an augmentation that needs no new encoding.

    Args:
        batch: ``B`` clips.
        share: probability for each clip, 0 to 1.
        generators: one per clip; nothing is drawn if the share is 0.

    Returns:
        the batch, with the frames of the chosen clips in reverse order.
    """
    if share == 0:
        return batch
    draws = [torch.rand(1, generator=generator, device=generator.device) for generator in generators]
    backwards = torch.cat(draws).to(batch.target.device) < share

    def turned(values: Tensor) -> Tensor:
        return torch.where(backwards.view(-1, *[1] * (values.ndim - 1)), values.flip(1), values)

    return replace(batch, **{name: turned(getattr(batch, name)) for name in _VIDEOS})


def join_latents(batches: Sequence[LatentBatch]) -> LatentBatch:
    """Concatenate batches of clips of the same size."""
    return LatentBatch(
        **{entry.name: torch.cat([getattr(batch, entry.name) for batch in batches]) for entry in fields(LatentBatch)}
    )
