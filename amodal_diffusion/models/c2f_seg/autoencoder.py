"""Mask autoencoder of C2F-Seg: a mask as a grid of codes, on diffusers' vector-quantized autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import VQModel
from einops import rearrange
from torch import Tensor, nn

from amodal_diffusion.models.c2f_seg.config import AutoencoderConfig


@dataclass(frozen=True)
class Reconstruction:
    """What the autoencoder makes of masks in training.

    Attributes:
        masks: reconstruction, float ``[N, 1, S, S]``, not clamped.
        codebook_loss: distance of latents and codes, float scalar.
        ids: codes, int64 ``[N, L]``, row by row.
    """

    masks: Tensor
    codebook_loss: Tensor
    ids: Tensor


class MaskAutoencoder(nn.Module):
    """Encodes a mask as ``L`` codes and decodes codes to a mask.

    Args:
        config: shape of the network.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        levels = len(config.block_out_channels)
        self.config = config
        self.vq = VQModel(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
            vq_embed_dim=config.latent_channels,
            num_vq_embeddings=config.num_codes,
            norm_num_groups=config.norm_num_groups,
            mid_block_add_attention=False,
        )
        self.vq.quantize.legacy = config.codebook_loss == "released"

    def forward(self, masks: Tensor) -> Reconstruction:
        """Reconstruct masks; gradients pass the quantization straight through.

        Args:
            masks: float ``[N, 1, S, S]`` in [0, 1].
        """
        latents = self.vq.encode(masks).latents
        codes, loss, (_, _, ids) = self.vq.quantize(latents)
        decoded = self.vq.decode(codes, force_not_quantize=True).sample
        return Reconstruction(decoded, loss, rearrange(ids, "(n l) -> n l", n=len(masks)))

    @torch.no_grad()
    def encode(self, masks: Tensor) -> Tensor:
        """Codes of masks, in float32 whatever the precision of the caller, as a rounded latent may change its code.

        Args:
            masks: float ``[N, 1, S, S]`` in [0, 1].

        Returns:
            int64 ``[N, L]``, row by row.
        """
        with torch.autocast(masks.device.type, enabled=False):
            latents = self.vq.encode(masks.float()).latents
            ids: Tensor = self.vq.quantize(latents)[2][2]
        return rearrange(ids, "(n l) -> n l", n=len(masks))

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """Masks of codes.

        Args:
            ids: int64 ``[N, L]``, row by row.

        Returns:
            float ``[N, 1, S, S]``, clamped to [0, 1].
        """
        count, length = ids.shape
        side = round(length**0.5)
        codes = self.vq.quantize.get_codebook_entry(ids.reshape(-1), (count, side, side, self.config.latent_channels))
        decoded: Tensor = self.vq.decode(codes, force_not_quantize=True).sample
        return decoded.clamp(0, 1)

    @torch.no_grad()
    def reseed(self, masks: Tensor, *, generator: torch.Generator) -> None:
        """Put the codebook where the encoder's latents are; without this, most codes may never be used.

        Args:
            masks: float ``[N, 1, S, S]``; with noise around them if they have fewer latents than there are codes.
            generator: draws the latents, on the CPU.
        """
        latents = rearrange(self.vq.encode(masks).latents, "n c h w -> (n h w) c")
        weight = self.vq.quantize.embedding.weight
        drawn = torch.randint(len(latents), (len(weight),), generator=generator).to(latents.device)
        noise = torch.randn(weight.shape, generator=generator).to(weight.device)
        weight.copy_(latents[drawn] + 0.01 * latents.std() * noise)


def used_codes(ids: Tensor) -> int:
    """Number of different codes; far fewer than the codebook has means that it collapsed."""
    return len(ids.unique())
