"""Tiny real segmenters: transformers' own classes with random weights, which find something in every frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    CLIPTokenizer,
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
)

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


def tiny_sam3_folder(folder: Path) -> Path:
    """Write a SAM 3 that finds up to three of anything in the first frame, with its tokenizer and preprocessing."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    ends = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate([*letters, *(f"{x}</w>" for x in letters), *ends])}
    cells, width = 8, 128
    size = 14 * cells
    small = {"hidden_size": width, "num_attention_heads": 2, "intermediate_size": 64}
    vision = {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": size,
            "window_size": 4,
            "global_attn_indexes": [1],
            "pretrain_image_size": 56,
        },
        "fpn_hidden_size": width,
        "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
    }
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": len(vocabulary),
            "hidden_size": 32,
            "intermediate_size": 64,
            "projection_dim": width,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "bos_token_id": vocabulary[ends[0]],
            "eos_token_id": vocabulary[ends[1]],
            "pad_token_id": vocabulary[ends[1]],
        },
        "geometry_encoder_config": {**small, "num_layers": 1},
        "detr_encoder_config": {**small, "num_layers": 1},
        "detr_decoder_config": {**small, "num_layers": 1, "num_queries": 6},
        "mask_decoder_config": {"hidden_size": width, "num_attention_heads": 2},
    }
    tracker = _common() | {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": width, "image_size": size, "mask_input_channels": 8},
        "image_size": size,
        "memory_attention_rope_feat_sizes": [cells, cells],
        "memory_attention_feed_forward_hidden_size": 64,
    }
    config = Sam3VideoConfig(
        detector_config=detector,
        tracker_config=tracker,
        low_res_mask_size=4 * cells,
        score_threshold_detection=0.0,
        new_det_thresh=0.0,
        max_num_objects=3,
        recondition_every_nth_frame=4,
        high_conf_thresh=0.0,
        high_iou_thresh=0.0,
    )
    torch.manual_seed(0)
    network = Sam3VideoModel(config)
    _randomised(network.tracker_model, 0)
    network.save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": size, "width": size}}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": half}))
    return folder


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
