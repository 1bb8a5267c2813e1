"""Tiny S-AModal networks, and a stub that knows the answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.models.s_amodal import SAModal, SAModalConfig, SAModalSampling
from amodal_diffusion.models.sam import SamShape
from amodal_diffusion.training.s_amodal.images import PromptBatch, PromptedImages, join
from tests.c2f_seg import moving_shape

SAM = SamShape(
    image_size=64,
    patch_size=8,
    hidden_size=64,
    layers=2,
    heads=4,
    mlp_ratio=2.0,
    window_size=4,
    global_layers=(1,),
    prompt_size=32,
    mask_prompt_channels=4,
    decoder_mlp=64,
    decoder_heads=4,
    iou_hidden=32,
)
TINY = SAModalConfig(SAM, adapter_reduction=4)


class Knowing(SAModal):
    """Answers the truth, whatever frame it sees, in the order of the frames that are asked for."""

    def __init__(self, masks: np.ndarray) -> None:
        super().__init__(TINY)
        self.masks = iter(masks)

    def forward(self, pixels: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        del points
        truth = torch.from_numpy(next(self.masks)).float()[None, None]
        return 20 * truth - 10, pixels.new_full((1, 1), 0.9)


def samples(count: int) -> list[AmodalSample]:
    """Clips of a shape behind a bar, 64 x 64 pixels, four frames."""
    return [moving_shape(seed, size=64) for seed in range(count)]


class Listed(list[AmodalSample]):
    """Clips in memory, as the training data expects them."""

    def name(self, index: int) -> str:
        return self[index].name


def batch_of(count: int, sampling: SAModalSampling | None = None) -> PromptBatch:
    """All frames of clips with points."""
    images = PromptedImages(Listed(samples(count)), sampling or SAModalSampling(), size=64, drawn=4)
    return join([images.draw(index, generator=torch.Generator().manual_seed(index)) for index in range(count)])
