"""Tiny real segmenters: transformers' own classes with random weights, which find something in every frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import EdgeTamVideoConfig, EdgeTamVideoModel, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig

SIZE = 64  # pixels a side that the tiny networks see
_CELLS = SIZE // 16


def tiny_sam2(seed: int = 0) -> Sam2VideoModel:
    """A Hiera of five blocks; a memory of three frames and four object pointers."""
    config = Sam2VideoConfig(
        **_common(),
        memory_attention_feed_forward_hidden_size=64,
    )
    return _randomised(Sam2VideoModel(config), seed)


def silent_sam2() -> Sam2VideoModel:
    """A network that never sees an object."""
    network = tiny_sam2()
    nn.init.zeros_(network.mask_decoder.pred_obj_score_head.proj_out.weight)
    nn.init.constant_(network.mask_decoder.pred_obj_score_head.proj_out.bias, -10.0)
    return network


def tiny_edgetam(seed: int = 0) -> EdgeTamVideoModel:
    """EdgeTAM's memory on the same Hiera; its own image encoder is timm's RepViT, which is not installed here."""
    config = EdgeTamVideoConfig(
        **_common(),
        memory_attention_mlp_hidden_size=64,
        memory_attention_rope_k_sizes=[2, 2],
        perceiver_resampler_num_latents=4,
        perceiver_resampler_num_latents_2d=4,
        perceiver_resampler_mlp_intermediate_size=64,
        perceiver_resampler_num_layers=1,
    )
    return _randomised(EdgeTamVideoModel(config), seed)


def tiny_segmenter_folder(folder: Path, network: nn.Module | None = None) -> Path:
    """Write a checkpoint with its preprocessing, in the files that those on the hub have."""
    (tiny_sam2() if network is None else network).save_pretrained(folder)
    settings = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": {"height": SIZE}}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def _common() -> dict[str, Any]:
    width = 128  # a smaller one fails inside the library, as do others than its multiples
    vision = Sam2VisionConfig(
        backbone_config={
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 16,
            "image_size": [SIZE, SIZE],
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [16, 32, 64, 128],
            "num_attention_heads_per_stage": [1, 1, 2, 2],
            "window_size_per_stage": [8, 4, 4, 2],
            "window_positional_embedding_background_size": [2, 2],
            "global_attention_blocks": [3],
        },
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[4 * _CELLS] * 2, [2 * _CELLS] * 2, [_CELLS] * 2],
        fpn_hidden_size=width,
    )
    return {
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": width, "image_size": SIZE, "mask_input_channels": 8},
        "mask_decoder_config": {
            "hidden_size": width,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 64,
        },
        "image_size": SIZE,
        "num_maskmem": 3,
        "max_object_pointers_in_encoder": 4,
        "memory_attention_hidden_size": width,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [_CELLS, _CELLS],
        "memory_encoder_hidden_size": width,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": width,
        "memory_fuser_num_layers": 1,
        "memory_fuser_embed_dim": width,
        "memory_fuser_intermediate_dim": 64,
    }


def _randomised(network: Any, seed: int) -> Any:
    """Weights large enough for masks with edges, and an object in every frame."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 or "memory" in name or "pointer" in name:
            nn.init.normal_(parameter, std=0.15, generator=generator)
    nn.init.constant_(network.mask_decoder.pred_obj_score_head.proj_out.bias, 10.0)
    return network.eval()
