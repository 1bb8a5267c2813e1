"""SAMEO's network: a frozen image and prompt encoder, and a mask decoder trained for amodal masks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SamModel

from amodal_diffusion.frames.boxes import BoxCrop
from amodal_diffusion.frames.transforms import resize
from amodal_diffusion.models.sam import draw_weights
from amodal_diffusion.models.sameo.config import SameoConfig
from amodal_diffusion.models.sameo.efficient_sam import EfficientSam
from amodal_diffusion.models.weights import load_strictly, read_state_dict
from amodal_diffusion.types import UInt8Array

Trained = Literal["decoder", "all"]

# ImageNet's mean and deviation of each channel, which both backends take.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Sameo(nn.Module):
    """Predicts the amodal mask of each box in an image, and the IoU of this mask with the truth.

    Args:
        config: backend and its shape.
        seed: of the new weights.
    """

    def __init__(self, config: SameoConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sam = config.backend == "sam"
            self.network = SamModel(config.sam.config()) if sam else EfficientSam(config.efficient_sam)
            if sam:
                draw_weights(self.network)
        self.train_parts("decoder")

    @property
    def mask_decoder(self) -> nn.Module:
        """The part that SAMEO trains."""
        found: nn.Module = self.network.mask_decoder
        return found

    def train_parts(self, trained: Trained) -> None:
        """Select the parameters that require gradients.

        Args:
            trained: ``decoder`` freezes both encoders, as published. ``all`` freezes only the random Fourier
                frequencies and what box prompts do not use; for a network without pretrained weights.
        """
        self.requires_grad_(requires_grad=trained == "all")
        self.mask_decoder.requires_grad_()
        for name, parameter in self.network.named_parameters():
            if any(part in name for part in _NEVER_TRAINED):
                parameter.requires_grad = False

    def load_base(self, folder: Path) -> None:
        """Load pretrained weights of the backend.

        Args:
            folder: with ``model.safetensors``: a download such as ``facebook/sam-vit-base``, or EfficientSAM's
                published file after conversion to safetensors.

        Raises:
            InputError: if a weight is missing, unknown or has another shape.
        """
        trained = {name for name, value in self.network.named_parameters() if value.requires_grad}
        state = read_state_dict(folder, "model")
        shared = "shared_image_embedding.positional_embedding"
        if shared in state:  # one tensor under two names, of which some files hold one
            state["prompt_encoder.shared_embedding.positional_embedding"] = state[shared]
        load_strictly(self.network, state, source=folder)
        for name, value in self.network.named_parameters():
            value.requires_grad = name in trained

    def encode(self, images: Tensor) -> Tensor:
        """Image embeddings, float ``[B, C, h, w]``, of images ``[B, 3, S, S]`` from :func:`prepare_images`."""
        if isinstance(self.network, EfficientSam):
            return self.network.encode(images)
        found: Tensor = self.network.vision_encoder(images).last_hidden_state
        return found

    def decode(self, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Predict one mask for each box; all boxes of an image share its embedding.

        Args:
            embeddings: from :meth:`encode`.
            boxes: float ``[B, Q, 4]``: left, top, right, bottom in pixels of the square, see :func:`network_boxes`.

        Returns:
            logits, float ``[B, Q, M, M]`` with ``M`` of ``config.shape.mask_size``, and predicted IoU, float
            ``[B, Q]``, which may leave [0, 1].
        """
        if isinstance(self.network, EfficientSam):
            return self.network.decode(embeddings, boxes)
        sparse, dense = self.network.prompt_encoder(
            input_points=None, input_labels=None, input_boxes=boxes, input_masks=None
        )
        code = self.network.get_image_wide_positional_embeddings()
        masks, ious = self.network.mask_decoder(
            image_embeddings=embeddings,
            image_positional_embeddings=code.repeat(len(embeddings), 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )[:2]
        return masks[:, :, 0], ious[:, :, 0]

    def forward(self, images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode; arguments and results as of :meth:`encode` and :meth:`decode`."""
        return self.decode(self.encode(images), boxes)


_NEVER_TRAINED = (
    "positional_embedding",  # random frequencies
    "mask_embed",
    "not_a_point_embed",
    "point_embed.0",
    "point_embed.1",
    "prompt_encoder.point_embeddings",
)


def frame_geometry(config: SameoConfig, source_hw: tuple[int, int]) -> BoxCrop:
    """How a frame goes into the square that the encoder sees.

    SAM keeps the aspect ratio and pads on the right and at the bottom; EfficientSAM stretches.

    Args:
        config: gives backend and size.
        source_hw: height and width of the frame in pixels.
    """
    height, width = source_hw
    size = config.shape.image_size
    scale = size / max(height, width)
    kept = (max(1, round(height * scale)), max(1, round(width * scale)))
    return BoxCrop((0, 0, height, width), source_hw, kept if config.backend == "sam" else (size, size), size)


def prepare_images(rgb: UInt8Array, geometry: BoxCrop) -> Tensor:
    """Normalize frames, uint8 ``[N, H, W, 3]``, and put them into the square: float32 ``[N, 3, S, S]``."""
    frames = torch.from_numpy(np.ascontiguousarray(np.moveaxis(rgb, -1, 1))).float() / 255  # [N, 3, H, W]
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _DEVIATION))
    return geometry.apply((frames - mean) / deviation)  # padding is 0 after the normalization


def network_boxes(boxes: Tensor, geometry: BoxCrop) -> Tensor:
    """Boxes x0, y0, x1, y1 in pixels of the frame, float ``[..., 4]``, in pixels of the square."""
    (height, width), (inner_height, inner_width) = geometry.source_hw, geometry.inner_hw
    scale = torch.tensor([inner_width / width, inner_height / height] * 2, dtype=torch.float32, device=boxes.device)
    return boxes.float() * scale


def frame_logits(logits: Tensor, geometry: BoxCrop, config: SameoConfig) -> Tensor:
    """Scale predicted masks to the frame.

    Args:
        logits: float ``[N, M, M]`` from :meth:`Sameo.decode`.
        geometry: of the frame.
        config: gives the backend: EfficientSAM scales bicubically, SAM bilinearly over the padded square.

    Returns:
        float ``[N, H, W]``.
    """
    if config.backend == "efficient_sam":
        return F.interpolate(logits[:, None], geometry.source_hw, mode="bicubic", align_corners=False)[:, 0]
    square = F.interpolate(logits[:, None], (geometry.size, geometry.size), mode="bilinear", align_corners=False)
    height, width = geometry.inner_hw
    return resize(square[..., :height, :width], geometry.source_hw)[:, 0]


def network_masks(masks: Tensor, geometry: BoxCrop, config: SameoConfig) -> Tensor:
    """Masks of a frame, float ``[N, H, W]`` of 0 and 1, at the decoder's size: area averages cut at one half.

    Returns:
        float ``[N, M, M]`` of 0 and 1.
    """
    square = geometry.apply(masks[:, None])
    side = config.shape.mask_size
    return (F.adaptive_avg_pool2d(square, side)[:, 0] >= 0.5).float()
