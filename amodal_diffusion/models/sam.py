"""Segment Anything for images: transformers' own `SamModel`, and the geometry between frames and its square input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.transforms import resize
from amodal_diffusion.models.downloads import Wanted, fetch
from amodal_diffusion.models.hub_ids import HubId
from amodal_diffusion.models.weights import building, check_keys, find_variant
from amodal_diffusion.types import UInt8Array

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Mean and standard deviation of ImageNet's colors on the scale 0..255, by which SAM's input is normalized."""
_SHARPER = 2.0
"""Factor on new queries and keys of the decoder: a prompt attends to a few tokens around it, not to all alike."""


@dataclass(frozen=True)
class SamShape:
    """Shape of a `SamModel`; the defaults are ViT-B (``facebook/sam-vit-base``).

    Attributes:
        image_size: side in pixels of the square input.
        patch_size: pixels per token along a side.
        hidden_size: channels of a token in the image encoder.
        layers: blocks of the image encoder.
        heads: attention heads of the image encoder.
        mlp_ratio: hidden channels of a block's MLP over ``hidden_size``.
        window_size: tokens along a side of the windows of local attention.
        global_layers: blocks with global attention, from 0.
        prompt_size: channels of image embeddings, prompts and decoder; even.
        mask_prompt_channels: channels inside the embedding of mask prompts.
        decoder_mlp: hidden channels of the mask decoder's MLPs.
        decoder_layers: blocks of the mask decoder.
        decoder_heads: attention heads of the mask decoder.
        iou_hidden: hidden channels of the head that predicts the IoU.
    """

    image_size: int = 1024
    patch_size: int = 16
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    window_size: int = 14
    global_layers: tuple[int, ...] = (2, 5, 8, 11)
    prompt_size: int = 256
    mask_prompt_channels: int = 16
    decoder_mlp: int = 2048
    decoder_layers: int = 2
    decoder_heads: int = 8
    iou_hidden: int = 256

    def __post_init__(self) -> None:
        """Check what would fail deep inside.

        Raises:
            InputError: if sizes do not divide each other.
        """
        if self.image_size % self.patch_size or self.hidden_size % self.heads or self.prompt_size % 2:
            raise InputError(
                "sam: expected image_size a multiple of patch_size, hidden_size one of heads, prompt_size even, got "
                f"{self.image_size} and {self.patch_size}, {self.hidden_size} and {self.heads}, {self.prompt_size}"
            )

    @classmethod
    def of(cls, sam: SamModel) -> SamShape:
        """Shape of a network."""
        vision, prompt, decoder = (
            sam.config.vision_config, sam.config.prompt_encoder_config, sam.config.mask_decoder_config
        )  # fmt: skip
        return cls(
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            hidden_size=vision.hidden_size,
            layers=vision.num_hidden_layers,
            heads=vision.num_attention_heads,
            mlp_ratio=vision.mlp_dim / vision.hidden_size,
            window_size=vision.window_size,
            global_layers=tuple(vision.global_attn_indexes),
            prompt_size=prompt.hidden_size,
            mask_prompt_channels=prompt.mask_input_channels,
            decoder_mlp=decoder.mlp_dim,
            decoder_layers=decoder.num_hidden_layers,
            decoder_heads=decoder.num_attention_heads,
            iou_hidden=decoder.iou_head_hidden_dim,
        )


def build_sam(shape: SamShape, *, seed: int = 0) -> SamModel:
    """Create a `SamModel` with random weights, see :func:`draw_weights`.

    Args:
        shape: of the network.
        seed: of its weights.
    """
    grid = {"image_size": shape.image_size, "patch_size": shape.patch_size}
    vision = SamVisionConfig(
        **grid,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        mlp_dim=round(shape.mlp_ratio * shape.hidden_size),
        window_size=shape.window_size,
        global_attn_indexes=list(shape.global_layers),
        output_channels=shape.prompt_size,
        num_pos_feats=shape.prompt_size // 2,
    )
    prompt = SamPromptEncoderConfig(
        **grid, hidden_size=shape.prompt_size, mask_input_channels=shape.mask_prompt_channels
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=shape.prompt_size,
        mlp_dim=shape.decoder_mlp,
        num_hidden_layers=shape.decoder_layers,
        num_attention_heads=shape.decoder_heads,
        iou_head_hidden_dim=shape.iou_hidden,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
        draw_weights(sam)
    return sam


def draw_weights(sam: SamModel) -> None:
    """Draw the weights of a new SAM, with the global generator, so that it learns without pretraining.

    Transformers' own draws do not: the image encoder's are practically zero, those of all other layers are for wider
    layers, and the Fourier frequencies of positions are so high that neighboring tokens have unrelated codes. Here, as
    in SAM's own code, layers are drawn as torch does, and frequencies with the standard deviation 1. Beyond that, the
    queries and keys of the decoder's cross-attention begin alike: a prompt attends to its own place from the start.

    Args:
        sam: a new network.
    """
    for module in sam.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
            module.reset_parameters()
    transformer = sam.mask_decoder.transformer
    crossing = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossing += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in crossing:
            attention.k_proj.weight.copy_(attention.q_proj.weight.mul_(_SHARPER))
            attention.q_proj.bias.zero_()
            attention.k_proj.bias.zero_()
        sam.shared_image_embedding.positional_embedding.normal_()
        sam.prompt_encoder.shared_embedding.positional_embedding.copy_(sam.shared_image_embedding.positional_embedding)


def load_sam(name: str | Path, *, download: bool = True, yes: bool = False) -> SamModel:
    """Load a pretrained `SamModel`.

    Args:
        name: a folder of transformers' layout, or a hub id such as ``facebook/sam-vit-base``, also with ``@REVISION``.
        download: False looks for a hub id in the local cache alone.
        yes: download without asking.

    Raises:
        InputError: if there is no such model, or its files are of another network, pickles or damaged.
    """
    folder, hub_id = Path(name), HubId.parse(name)
    if not folder.is_dir():
        if hub_id is None:
            raise InputError(f"sam {name}: expected a folder or a hub id such as facebook/sam-vit-base")
        wanted = Wanted(hub_id, f"sam {name}")
        folder = fetch([wanted], yes=yes, download=download)[wanted]
    variant = find_variant(folder, "model")
    with building(folder, SamModel):
        network, report = SamModel.from_pretrained(
            folder, variant=variant, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    wrong = [str(entry[0]) for entry in report.get("mismatched_keys", [])]
    check_keys(
        missing=report.get("missing_keys", []), unexpected=report.get("unexpected_keys", []), wrong=wrong, source=folder
    )
    return network


@dataclass(frozen=True)
class SamFrame:
    """Where a frame lies in SAM's square input: at the top left, its longer side as long as the square's.

    Attributes:
        source_hw: height and width of the frame.
        size: side of the square.
    """

    source_hw: tuple[int, int]
    size: int

    @property
    def inner_hw(self) -> tuple[int, int]:
        """Height and width of the frame inside the square."""
        scale = self.size / max(self.source_hw)
        height, width = (max(1, int(side * scale + 0.5)) for side in self.source_hw)
        return height, width

    def apply(self, rgb: UInt8Array) -> Tensor:
        """Scale, normalize and pad frames.

        Args:
            rgb: uint8 ``[N, H, W, 3]``.

        Returns:
            float32 ``[N, 3, size, size]``; the padding is 0, the mean color.
        """
        frames = torch.from_numpy(np.array(np.moveaxis(rgb, -1, 1))).float()  # [N, 3, H, W]
        scaled = resize(frames, self.inner_hw).round().clamp(0, 255)  # SAM was trained on 8-bit pictures
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        height, width = self.inner_hw
        return F.pad((scaled - mean) / std, (0, self.size - width, 0, self.size - height))

    def points(self, points: Tensor) -> Tensor:
        """Scale points, or the corners of boxes, to the square.

        Args:
            points: x and y in pixels of the frame, ``[..., 2]``.

        Returns:
            float32 of the same shape, x and y in pixels of the square.
        """
        (height, width), (inner_height, inner_width) = self.source_hw, self.inner_hw
        return points.float() * points.new_tensor([inner_width / width, inner_height / height], dtype=torch.float32)

    def invert(self, logits: Tensor) -> Tensor:
        """Scale the decoder's logits to the frame, as SAM does: to the square, without the padding, to the frame.

        Args:
            logits: float ``[N, C, s, s]`` of the whole square, at any size.

        Returns:
            float ``[N, C, H, W]``.
        """
        height, width = self.inner_hw
        square = resize(logits, (self.size, self.size), antialias=False)[..., :height, :width]
        return resize(square, self.source_hw, antialias=False)


@torch.no_grad()
def image_embeddings(sam: SamModel, pixels: Tensor, *, chunk: int = 4) -> Tensor:
    """Encode images, a few at once, without gradients.

    Args:
        sam: gives the image encoder.
        pixels: as `SamFrame.apply` gives, float32 ``[N, 3, S, S]``.
        chunk: number of images at once.

    Returns:
        float ``[N, D, S / patch, S / patch]``, which ``sam(image_embeddings=...)`` takes.
    """
    parts = [sam.vision_encoder(part).last_hidden_state for part in pixels.split(chunk)]
    return torch.cat(parts)
