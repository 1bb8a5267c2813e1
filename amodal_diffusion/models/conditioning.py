"""What the UNet is conditioned on, built by the same functions for training and for inference.

docs/method.md, sections 2, 3 and 6: condition latents are not multiplied by the VAE's scaling factor, every frame
attends to the tokens of all frames, and the time ids are (fps, motion bucket, noise strength) as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging

from amodal_diffusion.models.latents import Autoencoder, encode_video
from amodal_diffusion.models.memory import MOST_FRAMES
from amodal_diffusion.models.offloading import execution_device

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
TRAINING_FPS = 8
MOTION_BUCKET = 127
CPU_CHUNK, CHUNK = 4, 32
"""Frames that the image encoder sees at once: on a CPU as many as its caches hold, else to bound memory."""

Generators = torch.Generator | Sequence[torch.Generator]


@dataclass(frozen=True)
class Conditions:
    """All that the UNet sees beside the noisy latent.

    Attributes:
        latents: modal then guide, float ``[B, F, 8, h, w]``, not multiplied by the scaling factor.
        tokens: one image-encoder token a frame, float ``[B, F, D]``.
        added_time_ids: fps, motion bucket, noise strength, float ``[B, 3]``.
    """

    latents: Tensor
    tokens: Tensor
    added_time_ids: Tensor


def build_conditions(
    modal: Tensor,
    guide: Tensor | None,
    *,
    vae: Autoencoder,
    image_encoder: CLIPVisionModelWithProjection,
    noise_aug_strength: Tensor,
    generator: Generators | None = None,
    tokens: Tensor | None = None,
    fps: int = TRAINING_FPS,
    motion_bucket_id: int = MOTION_BUCKET,
    encode_chunk_size: int | None = MOST_FRAMES,
    guide_rows: Sequence[int | None] | None = None,
) -> Conditions:
    """Turn the modal and guide videos into conditions.

    Noise is drawn in this order: modal frames, then guide frames. The image encoder sees the clean modal video.

    Args:
        modal: float ``[B, F, 1 or 3, H, W]`` in [-1, 1].
        guide: as ``modal``, or None for guide latents of zero.
        vae: encodes both.
        image_encoder: makes one token a frame from the modal video.
        noise_aug_strength: float ``[B]``, standard deviation of the noise added to the condition pixels, at least 0;
            see :func:`add_condition_noise`.
        generator: of the noise; one for the batch or one a clip.
        tokens: of the modal video, float ``[B, F, D]``, where they are known; made from it by default.
        fps: frame rate the model is told.
        motion_bucket_id: amount of motion the model is told.
        encode_chunk_size: frames that the VAE encodes at once, as for
            :func:`~amodal_diffusion.models.latents.encode_video`.
        guide_rows: for each clip, the first clip with the same guide, noise strength and state of its generator, whose
            guide latents it gets, or None for latents of zero. It takes a generator for each clip; those of clips that
            are not named do not advance past the modal noise. Each clip's guide is encoded when None.

    Returns:
        conditions on the networks' device, float32 latents and tokens.
    """
    noisy_modal = add_condition_noise(modal, noise_aug_strength, generator=generator)
    modal_latents = encode_video(vae, noisy_modal, chunk_size=encode_chunk_size, exact=False)  # [B, F, 4, h, w]
    if guide is None:
        guide_latents = torch.zeros_like(modal_latents)
    elif guide_rows is None or not isinstance(generator, Sequence):
        noisy_guide = add_condition_noise(guide, noise_aug_strength, generator=generator)
        guide_latents = encode_video(vae, noisy_guide, chunk_size=encode_chunk_size, exact=False)
    else:
        encoded = {
            row: encode_video(
                vae,
                add_condition_noise(guide[row, None], noise_aug_strength[row, None], generator=[generator[row]]),
                chunk_size=encode_chunk_size,
                exact=False,
            )
            for row in dict.fromkeys(guide_rows)
            if row is not None
        }
        nothing = torch.zeros_like(modal_latents[:1])
        guide_latents = torch.cat([nothing if row is None else encoded[row] for row in guide_rows])
    return conditions_from_latents(
        modal_latents,
        guide_latents,
        clip_tokens(image_encoder, modal) if tokens is None else tokens,
        noise_aug_strength=noise_aug_strength,
        fps=fps,
        motion_bucket_id=motion_bucket_id,
    )


def conditions_from_latents(
    modal_latents: Tensor,
    guide_latents: Tensor,
    tokens: Tensor,
    *,
    noise_aug_strength: Tensor,
    fps: int = TRAINING_FPS,
    motion_bucket_id: int = MOTION_BUCKET,
) -> Conditions:
    """Put conditions together from what is already encoded.

    Args:
        modal_latents: float ``[B, F, 4, h, w]``, not multiplied by the scaling factor.
        guide_latents: as ``modal_latents``.
        tokens: float ``[B, F, D]``.
        noise_aug_strength: float ``[B]``, the strength of the noise that is in the latents.
        fps: frame rate the model is told.
        motion_bucket_id: amount of motion the model is told.
    """
    strength = noise_aug_strength.to(modal_latents.device, torch.float32, non_blocking=True)
    ids = torch.stack(
        [torch.full_like(strength, fps), torch.full_like(strength, motion_bucket_id), strength], dim=1
    )  # [B, 3]
    latents = torch.cat([modal_latents, guide_latents], dim=2)  # [B, F, 8, h, w]
    return Conditions(latents=latents, tokens=tokens.to(latents.device), added_time_ids=ids)


def add_condition_noise(video: Tensor, strength: Tensor, *, generator: Generators | None) -> Tensor:
    """Add unit normal noise of a given strength to condition pixels (three channels, each its own noise).

    Args:
        video: float ``[B, F, 1 or 3, H, W]``; one channel is repeated to three.
        strength: float ``[B]``. On the CPU, nothing is drawn where all are 0. On another device noise is always drawn,
            as reading the strengths would make the host wait for the device.
        generator: one for the batch or one a clip.

    Returns:
        float ``[B, F, 3, H, W]``.
    """
    video = video.expand(-1, -1, 3, -1, -1)
    if strength.device.type == "cpu" and not bool((strength > 0).any()):
        return video
    generators = list(generator) if isinstance(generator, Sequence) else generator
    noise = randn_tensor(tuple(video.shape), generator=generators, device=video.device, dtype=video.dtype)
    scale = strength.to(video.device, video.dtype, non_blocking=True)[:, None, None, None, None]
    return video + scale * noise


def clip_tokens(image_encoder: CLIPVisionModelWithProjection, video: Tensor) -> Tensor:
    """One projected token a frame, after Stable Video Diffusion's own antialiased resize on [-1, 1].

    Args:
        image_encoder: its configured image size is the size resized to (224 at full size).
        video: float ``[B, F, 1 or 3, H, W]`` in [-1, 1]; one channel is repeated to three.

    Returns:
        float32 ``[B, F, D]``.
    """
    size = image_encoder.config.image_size
    device, dtype = execution_device(image_encoder), image_encoder.dtype
    frames = CPU_CHUNK if device.type == "cpu" else CHUNK
    mean = torch.tensor(CLIP_MEAN, device=device)[:, None, None]
    std = torch.tensor(CLIP_STD, device=device)[:, None, None]
    clips = []
    for clip in video:  # chunks never mix clips: a clip's result does not depend on its batch
        tokens = []
        for chunk in clip.split(frames):
            pixels = chunk.to(device, torch.float32).contiguous()
            pixels = _svd_resize()(pixels, (size, size)).expand(-1, 3, -1, -1)
            pixels = ((pixels + 1) / 2 - mean) / std
            tokens.append(image_encoder(pixels.to(dtype)).image_embeds.float())
        clips.append(torch.cat(tokens))
    return torch.stack(clips)  # [B, F, D]


def drop_conditions(conditions: Conditions, probability: float, *, generator: torch.Generator) -> Conditions:
    """Leave out conditions at random, so that guidance has an unconditional model to lean on.

    One uniform draw ``u`` a clip: tokens are zero for ``u < 2p``, latents for ``p <= u < 3p``
    (docs/method.md, section 3).

    Args:
        conditions: of ``B`` clips.
        probability: ``p``, from 0 to 1/3.
        generator: of the draw.
    """
    batch = conditions.latents.shape[0]
    draw = torch.rand(batch, generator=generator, device=generator.device).to(conditions.latents.device)
    keep_tokens = draw >= 2 * probability
    keep_latents = (draw < probability) | (draw >= 3 * probability)
    return replace(
        conditions,
        tokens=conditions.tokens * keep_tokens[:, None, None],
        latents=conditions.latents * keep_latents[:, None, None, None, None],
    )


def unconditional(conditions: Conditions) -> Conditions:
    """The same time ids with latents and tokens of zero: the unconditional row of guidance."""
    return replace(conditions, latents=torch.zeros_like(conditions.latents), tokens=torch.zeros_like(conditions.tokens))


@cache
def _svd_resize() -> Callable[[Tensor, tuple[int, int]], Tensor]:
    """The resizing of SVD's pipeline, imported without its warning about torchvision, which resizing does not need."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
    finally:
        logging.set_verbosity(verbosity)
    resize: Callable[[Tensor, tuple[int, int]], Tensor] = _resize_with_antialiasing
    return resize
