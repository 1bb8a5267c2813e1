"""Video to VAE latents and back, a few frames at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKLTemporalDecoder, AutoencoderTiny
from torch import Tensor

from amodal_diffusion.models.memory import MOST_FRAMES, frames_that_fit
from amodal_diffusion.models.offloading import execution_device

Autoencoder: TypeAlias = AutoencoderKLTemporalDecoder | AutoencoderTiny
"""Stable Video Diffusion's own, or a light one that has learned its latents; that one works on scaled latents."""


def spatial_factor(vae: Autoencoder) -> int:
    """Pixels a latent cell stands for in each direction (8 for Stable Video Diffusion)."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def encode_video(
    vae: Autoencoder, video: Tensor, *, chunk_size: int | None = MOST_FRAMES, exact: bool = True
) -> Tensor:
    """Encode frames one by one; the mode of the posterior.

    Args:
        vae: the autoencoder; its encoder looks at single frames.
        video: float ``[B, F, 1 or 3, H, W]`` in [-1, 1]; one channel is repeated to three.
        chunk_size: frames encoded at once; it bounds memory and does not change the result. None chooses by the free
            memory of a GPU.
        exact: whether a VAE with ``force_upcast`` leaves any autocast, as for a training target; else it leaves only
            that of float16, and under bfloat16 it is several times faster.

    Returns:
        float32 ``[B, F, 4, h, w]``, **not** multiplied by the scaling factor: conditions are used like this, a
        training target is multiplied by the caller (docs/method.md, section 2).
    """
    clips, device, dtype = [], execution_device(vae), vae.dtype
    if chunk_size is None:
        chunk_size = frames_that_fit(vae, height=video.shape[3], width=video.shape[4], device=device)
    for clip in video:  # chunks never mix clips: a clip's result does not depend on its batch
        pixels = (chunk.expand(-1, 3, -1, -1).to(device, dtype) for chunk in clip.split(chunk_size))
        with _float32_where_asked(vae, device, exact=exact):
            clips.append(torch.cat([_encode(vae, chunk).float() for chunk in pixels]))
    return torch.stack(clips)  # [B, F, 4, h, w]


def decode_latents(vae: Autoencoder, latents: Tensor, *, decode_chunk_size: int) -> Tensor:
    """Decode latents to frames.

    A temporal decoder mixes neighboring frames, so where a clip is cut into chunks is part of the result. A light one
    decodes frame by frame, on a GPU no more at once than its free memory has room for.

    Args:
        vae: the autoencoder.
        latents: float ``[B, F, 4, h, w]``, multiplied by the scaling factor.
        decode_chunk_size: frames of a clip decoded together, at least 1.

    Returns:
        float32 ``[B, F, 3, H, W]``, about [-1, 1], not clipped.
    """
    device = execution_device(vae)
    if isinstance(vae, AutoencoderTiny):
        height, width = (size * spatial_factor(vae) for size in latents.shape[3:])
        fitting = frames_that_fit(vae, height=height, width=width, device=device)
        decode_chunk_size = min(decode_chunk_size, fitting)
    latents = latents.to(device=device, dtype=vae.dtype)
    clips = []
    for clip in latents:
        chunks = clip.split(decode_chunk_size)
        with _float32_where_asked(vae, device, exact=True):
            clips.append(torch.cat([_decode(vae, chunk).float() for chunk in chunks]))
    return torch.stack(clips)  # [B, F, 3, H, W]


def _float32_where_asked(vae: Autoencoder, device: torch.device, *, exact: bool) -> AbstractContextManager[object]:
    """No autocast around a VAE whose settings say ``force_upcast``, as its values leave the range of float16.

    bfloat16 has the range of float32 and fewer digits, so it is left out only where the result is to be exact.
    """
    if not vae.config.force_upcast or not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    harmful = exact or torch.get_autocast_dtype(device.type) == torch.float16
    return torch.autocast(device.type, enabled=False) if harmful else nullcontext()


def _encode(vae: Autoencoder, frames: Tensor) -> Tensor:
    """Latents ``[N, 4, h, w]`` of frames ``[N, 3, H, W]``, not multiplied by the scaling factor."""
    if isinstance(vae, AutoencoderTiny):
        return vae.encode(frames).latents / vae.config.scaling_factor
    return vae.encode(frames).latent_dist.mode()


def _decode(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Frames ``[N, 3, H, W]`` of latents ``[N, 4, h, w]`` that are multiplied by the scaling factor."""
    if isinstance(vae, AutoencoderTiny):
        return vae.decode(latents).sample
    return vae.decode(latents / vae.config.scaling_factor, num_frames=len(latents)).sample


def autoencoder_dtype(config: Mapping[str, Any], dtype: torch.dtype) -> torch.dtype:
    """Dtype of an autoencoder beside networks of a dtype: float32 for float16 where ``force_upcast`` is set."""
    return torch.float32 if dtype == torch.float16 and config.get("force_upcast", True) else dtype


def autoencoder_class(config: dict[str, Any]) -> type[Autoencoder]:
    """The class that an autoencoder's ``config.json`` is of; Stable Video Diffusion's unless it names the light one."""
    return AutoencoderTiny if config.get("_class_name") == AutoencoderTiny.__name__ else AutoencoderKLTemporalDecoder
