"""Tiny real networks, clips and checkpoints: the stock classes at a size that a test can afford."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    AutoencoderTiny,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessorPil,
    VideoMAEConfig,
    VideoMAEModel,
)

from amodal_diffusion.basics import STAGES, Stage
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.models.checkpoint import CheckpointSettings
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.synthetic.composites.cutouts import Cutout, prepare_pictures, write_cutouts
from amodal_diffusion.types import VideoClip

TOKEN_WIDTH = 32
SAMPLING = SamplingConfig(
    num_inference_steps=2,
    guidance_scale=1.0,
    height=32,
    width=64,
    num_frames=4,
    decode_chunk_size=4,
    mask_threshold=0.5,  # random weights decode to gray: about half of the pixels are above this
)


def tiny_unet(seed: int = 0, *, in_channels: int = 12) -> UNetSpatioTemporalConditionModel:
    """One level, attention in the middle alone; random weights."""
    torch.manual_seed(seed)
    return UNetSpatioTemporalConditionModel(
        in_channels=in_channels,
        down_block_types=("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",),
        block_out_channels=(32,),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=TOKEN_WIDTH,
        transformer_layers_per_block=1,
        num_attention_heads=(2,),
    ).eval()


def tiny_vae(seed: int = 0) -> AutoencoderKLTemporalDecoder:
    """Two levels, so a latent cell is 2 x 2 pixels; random weights."""
    torch.manual_seed(seed)
    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        layers_per_block=1,
        latent_channels=4,
        scaling_factor=0.5,
    ).eval()


def tiny_distilled_vae(seed: int = 0) -> AutoencoderTiny:
    """A distilled autoencoder whose latents have the size of `tiny_vae`'s; random weights."""
    torch.manual_seed(seed)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(0, 1),
        num_decoder_blocks=(1, 0),
        scaling_factor=0.5,
    ).eval()


def tiny_image_encoder(seed: int = 0) -> CLIPVisionModelWithProjection:
    """One layer at 32 pixels; random weights."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=TOKEN_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
    )
    return CLIPVisionModelWithProjection(config).eval()


def tiny_scheduler() -> EulerDiscreteScheduler:
    """Stable Video Diffusion's own settings."""
    return EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
    )


def tiny_components(stage: Stage = "amodal_segmentation", seed: int = 0) -> StageComponents:
    """All parts of one stage."""
    return StageComponents(
        unet=tiny_unet(seed),
        vae=tiny_vae(seed),
        image_encoder=tiny_image_encoder(seed),
        scheduler=tiny_scheduler(),
        settings=CheckpointSettings(stage, SAMPLING),
    )


def tiny_completer_folder(folder: Path) -> Path:
    """Write a checkpoint of both stages in the package's own layout, sharing VAE, image encoder and scheduler."""
    save_model([tiny_components(stage) for stage in STAGES], folder)
    return folder


def tiny_cutouts_folder(folder: Path) -> Path:
    """Write forty-four cut-outs of one drawn picture; their categories fall into all three splits."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((20, 20, 4), np.uint8)
    picture[2:18, 4:16] = (200, 90, 30, 255)
    Image.fromarray(prepare_pictures([picture])[0]).save(folder / "0.png")
    things = [Cutout(f"{k}", f"word-{k}", "drawn 1", "own", f"{k:064d}", ("0.png",)) for k in range(44)]
    write_cutouts(folder, things, {"drawn": "1"})
    return folder


def tiny_svd_folder(folder: Path) -> Path:
    """Write a plain Stable Video Diffusion folder: a UNet of 8 channels and the parts beside it."""
    components = tiny_components()
    tiny_unet(in_channels=8).save_pretrained(folder / "unet")
    components.vae.save_pretrained(folder / "vae")
    components.image_encoder.save_pretrained(folder / "image_encoder")
    components.scheduler.save_pretrained(folder / "scheduler")
    return folder


def tiny_depth_folder(folder: Path) -> Path:
    """Write a Depth Anything network with random weights, and its preprocessing."""
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 16, 16],
        fusion_hidden_size=16,
        head_hidden_size=8,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(folder)
    return folder


def tiny_video_features(folder: Path) -> Path:
    """Write a VideoMAE model of one layer; random weights."""
    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32,
        patch_size=16,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    VideoMAEModel(config).save_pretrained(folder)
    return folder


def moving_square(frames: int = 6, height: int = 24, width: int = 40, *, seed: int = 0) -> VideoClip:
    """A bright square that moves right over noise; the mask is the whole square."""
    noise = np.random.default_rng(seed).integers(0, 120, (frames, height, width, 3), dtype=np.uint8)
    mask = np.zeros((frames, height, width), dtype=np.bool_)
    for index in range(frames):
        left = 4 + index * 2
        mask[index, 6:16, left : left + 10] = True
    noise[mask] = (220, 180, 60)
    return VideoClip(noise, mask, fps=8.0)


def tiny_released_folder(folder: Path, stage: Stage = "amodal_segmentation") -> Path:
    """Write a checkpoint in the released layout: plain and ``fp16`` weights, ``conv_in2`` of 12 inputs in the UNet."""
    components = tiny_components(stage, seed=STAGES.index(stage))
    parts = {"unet": tiny_unet(in_channels=8), "vae": components.vae, "image_encoder": components.image_encoder}
    for variant in (None, "fp16"):
        for name, network in parts.items():
            network.to(torch.float32 if variant is None else torch.float16)
            network.save_pretrained(folder / name, variant=variant)
    trained = components.unet.state_dict()
    for path in (folder / "unet").glob("*.safetensors"):
        state = load_file(path)
        dtype = state["conv_in.weight"].dtype
        unused = {key: state[key] for key in ("conv_in.weight", "conv_in.bias")}
        state = {key.replace("conv_in.", "conv_in2."): value.to(dtype) for key, value in trained.items()} | unused
        save_file({key: value.contiguous() for key, value in state.items()}, path, metadata={"format": "pt"})
    components.scheduler.save_pretrained(folder / "scheduler")
    index = {"_class_name": ["models.diffusion_vas", "DiffusionVASPipeline"], "unet": ["models.diffusion_vas", "UNet"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
