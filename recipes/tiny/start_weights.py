"""Weights to go on from: a model folder, or networks stored as loose files with their settings beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNetSpatioTemporalConditionModel
from safetensors import safe_open
from torch import Tensor

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.models.checkpoint import CheckpointSettings
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.training.networks import build_image_encoder, build_scheduler
from amodal_diffusion.training.settings import TrainingSettings

_UNETS: dict[Stage, str] = {
    "amodal_segmentation": "mask_unet_*.safetensors",
    "content_completion": "content_unet_*.safetensors",
}
_VAE = "vae.safetensors"


def model_folder(start: Path, recipe: dict[Stage, TrainingSettings], folder: Path) -> Path:
    """A model folder with the weights; loose files are written into one first.

    Args:
        start: model folder, or a folder with ``vae.safetensors``, ``mask_unet_*.safetensors`` and
            ``content_unet_*.safetensors``, whose metadata have each network's settings.
        recipe: settings of both stages, for sampling and the image encoder of loose files.
        folder: where loose files are written; one that is there already is taken.

    Raises:
        InputError: if there are no such weights.
    """
    if (start / "amodal_segmentation").is_dir():
        return start
    if not (start / _VAE).is_file():
        raise InputError(f"start: {start}: expected a model folder, or one with {_VAE} and both UNets")
    if folder.is_dir():
        return folder
    state, config = _read([start / _VAE])
    vae = AutoencoderTiny(**config)
    vae.load_state_dict(state)
    partial = folder.with_name(f"{folder.name}.partial")
    save_model([_stage(start, stage, recipe[stage], vae) for stage in STAGES], partial)
    partial.rename(folder)
    return folder


def _stage(start: Path, stage: Stage, settings: TrainingSettings, vae: AutoencoderTiny) -> StageComponents:
    files = sorted(start.glob(_UNETS[stage]))
    if not files:
        raise InputError(f"start: {start}: expected {_UNETS[stage]}, got none")
    state, config = _read(files)
    unet = UNetSpatioTemporalConditionModel(**config)
    unet.load_state_dict(state)
    encoder = build_image_encoder(settings.model.new_image_encoder, tokens=settings.model.unet.cross_attention_dim)
    return StageComponents(unet, vae, encoder, build_scheduler(), CheckpointSettings(stage, settings.sampling))


def _read(files: list[Path]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of all files as float32, and the settings in the metadata of the first."""
    state: dict[str, Tensor] = {}
    config: dict[str, Any] = {}
    for path in files:
        with safe_open(path, "pt") as opened:
            config = config or json.loads((opened.metadata() or {})["config"])
            state |= {name: opened.get_tensor(name).to(torch.float32) for name in opened.keys()}  # noqa: SIM118
    return state, config
