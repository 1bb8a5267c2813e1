"""The settings of a run's networks: where they come from, their shapes, and what of the UNet is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from amodal_diffusion.models.unet import Trainable
from amodal_diffusion.types import InputError

Attention = Literal["sdpa", "plain", "xformers"]


@dataclass(frozen=True)
class UNetSettings:
    """Shape of a UNet that is trained from scratch.

    Attributes:
        block_out_channels: channels of each level, from the finest down; multiples of 32.
        attention_levels: levels with cross-attention, counted from 0, the finest.
        layers_per_block: residual layers of each level.
        transformer_layers_per_block: attention layers of each block with cross-attention.
        num_attention_heads: attention heads of each level.
        cross_attention_dim: width ``D`` of the image encoder's tokens.
        addition_time_embed_dim: width of the embedding of each of the three time ids.
    """

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[int, ...] = (0, 1, 2)
    layers_per_block: int = 2
    transformer_layers_per_block: int = 1
    num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)
    cross_attention_dim: int = 1024
    addition_time_embed_dim: int = 256

    def __post_init__(self) -> None:
        """Check that the levels agree.

        Raises:
            InputError: if heads or attention levels do not fit the channels.
        """
        levels = len(self.block_out_channels)
        if len(self.num_attention_heads) != levels:
            raise InputError(
                f"model.unet.num_attention_heads: expected {levels} values like block_out_channels, got "
                f"{len(self.num_attention_heads)}"
            )
        if not set(self.attention_levels) <= set(range(levels)):
            raise InputError(
                f"model.unet.attention_levels: expected levels from 0 to {levels - 1}, got {self.attention_levels}"
            )


@dataclass(frozen=True)
class ImageEncoderSettings:
    """Shape of an image encoder with random weights, which stay as they are.

    Attributes:
        image_size: pixels a side that frames are resized to.
        patch_size: pixels a side of a patch.
        hidden_size: width of its layers.
        num_hidden_layers: number of layers.
        num_attention_heads: attention heads of a layer.
        seed: of the weights.
    """

    image_size: int = 64
    patch_size: int = 16
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    seed: int = 0


@dataclass(frozen=True)
class LoraSettings:
    """The low-rank updates that ``model.trainable: lora`` trains in place of the temporal transformer blocks.

    Attributes:
        rank: of an update; the more, the closer to training the blocks whole.
        alpha: scale of the updates, times the rank.
    """

    rank: int = 16
    alpha: float = 16.0

    def __post_init__(self) -> None:
        """Check the rank.

        Raises:
            InputError: if it is below 1.
        """
        if self.rank < 1:
            raise InputError(f"model.lora.rank: expected at least 1, got {self.rank}")


@dataclass(frozen=True)
class ModelSettings:
    """Where the networks come from, and what of the UNet is trained.

    Attributes:
        base: checkpoint of this package or of the released layout to start from: bundled name, folder, hub id.
        svd: plain Stable Video Diffusion folder or hub id to start from; its UNet gets 4 new channels of zero.
        unet: shape of the UNet where neither ``base`` nor ``svd`` is given: it starts from random weights.
        new_image_encoder: shape of the image encoder where there is neither a base nor ``image_encoder``.
        vae: folder of the autoencoder, in place of the base's own.
        image_encoder: folder of the image encoder, in place of the base's own.
        scheduler: folder of the sampler, in place of the base's own.
        trainable: ``paper`` trains the temporal transformer blocks and ``conv_in``, ``all`` everything, ``lora``
            low-rank updates of these blocks, and ``conv_in`` (extra ``peft``).
        lora: of ``trainable: lora``.
        attention: ``sdpa`` is torch's fused attention; ``plain`` multiplies matrices, which is a fifth faster on a CPU
            for the few tokens of a small model; ``xformers`` is the extra of that name.
        gradient_checkpointing: compute activations again in the backward pass, to save memory.
        compile: run the UNet through `torch.compile`: the first steps take minutes, all others less time.
        depth_model: Depth Anything network whose depth the guide of stage 1 is, noted in the exported checkpoint; of
            an annotation file's frames it is computed, where ``data.cache`` does not hold it.
    """

    base: str | None = None
    svd: str | None = None
    unet: UNetSettings = field(default_factory=UNetSettings)
    new_image_encoder: ImageEncoderSettings = field(default_factory=ImageEncoderSettings)
    vae: Path | None = None
    image_encoder: Path | None = None
    scheduler: Path | None = None
    trainable: Trainable = "paper"
    lora: LoraSettings = field(default_factory=LoraSettings)
    attention: Attention = "sdpa"
    gradient_checkpointing: bool = False
    compile: bool = False
    depth_model: str | None = None
