"""Video to VAE latents and back, a few frames at a time."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLTemporalDecoder
from einops import rearrange
from torch import Tensor


def spatial_factor(vae: AutoencoderKLTemporalDecoder) -> int:
    """Pixels a latent cell stands for in each direction (8 for Stable Video Diffusion)."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def encode_video(vae: AutoencoderKLTemporalDecoder, video: Tensor, *, chunk_size: int = 32) -> Tensor:
    """Encode frames one by one; the mode of the posterior.

    Args:
        vae: the autoencoder; its encoder looks at single frames.
        video: float ``[B, F, 1 or 3, H, W]`` in [-1, 1]; one channel is repeated to three.
        chunk_size: frames encoded at once; it bounds memory and does not change the result.

    Returns:
        float32 ``[B, F, 4, h, w]``, **not** multiplied by the scaling factor: conditions are used like this, a
        training target is multiplied by the caller (specification, section 2).
    """
    frames = rearrange(video, "b f c h w -> (b f) c h w")
    parts = []
    for chunk in frames.split(chunk_size):
        pixels = chunk.expand(-1, 3, -1, -1).to(device=vae.device, dtype=vae.dtype)
        parts.append(vae.encode(pixels).latent_dist.mode().float())
    return rearrange(torch.cat(parts), "(b f) c h w -> b f c h w", b=video.shape[0])


def decode_latents(vae: AutoencoderKLTemporalDecoder, latents: Tensor, *, decode_chunk_size: int) -> Tensor:
    """Decode latents to frames.

    The decoder mixes neighbouring frames, so where a clip is cut into chunks is part of the result.

    Args:
        vae: the autoencoder.
        latents: float ``[B, F, 4, h, w]``, multiplied by the scaling factor.
        decode_chunk_size: frames of a clip decoded together, at least 1.

    Returns:
        float32 ``[B, F, 3, H, W]``, about [-1, 1], not clipped.
    """
    latents = latents.to(device=vae.device, dtype=vae.dtype) / vae.config.scaling_factor
    parts = []
    for chunk in latents.split(decode_chunk_size, dim=1):
        rows = rearrange(chunk, "b f c h w -> (b f) c h w")
        video = vae.decode(rows, num_frames=chunk.shape[1]).sample.float()
        parts.append(rearrange(video, "(b f) c h w -> b f c h w", f=chunk.shape[1]))
    return torch.cat(parts, dim=1)
