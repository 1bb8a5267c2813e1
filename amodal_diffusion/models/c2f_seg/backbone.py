"""Image features of C2F-Seg: transformers' ResNet, whose last stages keep the resolution of the token grid."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg.config import BackboneConfig

STEM_STRIDE = 4


def build_backbone(config: BackboneConfig, *, stride: int) -> ResNetBackbone:
    """Create a ResNet with random weights whose coarsest features have a given stride.

    A stage whose features would be coarser gets stride 1, in its first layer's convolution and in its shortcut, which
    changes no weight: published weights of the same shape fit.

    Args:
        config: shape of the network.
        stride: pixels per cell of the coarsest features, a power of two of at least 4.
    """
    backbone = ResNetBackbone(
        ResNetConfig(
            embedding_size=config.embedding_size,
            hidden_sizes=list(config.hidden_sizes),
            depths=list(config.depths),
            layer_type=config.layer_type,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
    )
    reached = STEM_STRIDE
    for stage in backbone.encoder.stages[1:]:
        if 2 * reached <= stride:
            reached *= 2
            continue
        for module in stage.layers[0].modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    return backbone


def image_features(backbone: ResNetBackbone, images: Tensor, *, grid: int) -> tuple[Tensor, ...]:
    """Features of the four stages, finest first.

    Args:
        backbone: from :func:`build_backbone`.
        images: RGB, float ``[N, 3, S, S]`` in [0, 1], without the mean and deviation of ImageNet, as published.
        grid: tokens along a side, which the coarsest features must have too.

    Raises:
        InputError: if they do not.
    """
    result: Any = backbone(images)
    features: tuple[Tensor, ...] = tuple(result.feature_maps)
    if tuple(features[-1].shape[-2:]) != (grid, grid):
        raise InputError(
            f"images: their coarsest features are {list(features[-1].shape[-2:])}, expected the grid of tokens, "
            f"{grid} x {grid}"
        )
    return features
