"""Several stages of a model at once: networks whose weights are the same are one object, loaded once."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.models.checkpoint import CheckpointSettings
from amodal_diffusion.models.hub import (
    StageComponents,
    load_stage,
    part_folder,
    settings_of_released,
    stage_folder,
    stage_settings,
)
from amodal_diffusion.models.latents import Autoencoder, autoencoder_class, autoencoder_dtype
from amodal_diffusion.models.light_vae import load_light_vae
from amodal_diffusion.models.unet import AMODAL_CHANNELS, STEM
from amodal_diffusion.models.weights import building, read_json, same_settings, weight_files

SHARED_PARTS = {"vae": STEM, "image_encoder": "model"}
"""Frozen networks that stages have in common where their weights are the same, and the stems of their files."""


def load_stages(
    folders: Mapping[Stage, Path],
    *,
    dtype: torch.dtype = torch.float32,
    vae: Path | None = None,
    share: bool = True,
) -> dict[Stage, StageComponents]:
    """Load stages; a VAE or an image encoder whose files equal those of an earlier stage is taken from that one.

    Args:
        folders: the model of each stage, see :func:`~amodal_diffusion.models.hub.find_model`.
        dtype: as for :func:`~amodal_diffusion.models.hub.load_stage`.
        vae: light autoencoder in place of the stages' own.
        share: False gives each stage networks of its own, for ``sequential`` offload: its hooks can be in one pipeline.

    Raises:
        InputError: as `load_stage`, or if the light autoencoder does not fit.
    """
    loaded: dict[Stage, StageComponents] = {}
    for stage, folder in folders.items():
        shared = {
            name: getattr(components, name)
            for other, components in loaded.items()
            for name in SHARED_PARTS
            if share and _is_shared(name, (folders[other], other), (folder, stage))
        }
        if vae is not None and "vae" not in shared:
            own = part_folder(stage_folder(folder, stage) or folder, "vae")
            shared["vae"] = load_light_vae(vae, replaced=own, dtype=dtype)
        loaded[stage] = load_stage(folder, stage=stage, dtype=dtype, loaded=shared)
    return loaded


def _is_shared(name: str, *places: tuple[Path, Stage]) -> bool:
    """Whether a part of two stages is the same network: settings and weights equal byte by byte.

    Anything that is missing or damaged is not shared; loading says what is wrong with it.
    """
    try:
        first, second = (part_folder(stage_folder(model, stage) or model, name) for model, stage in places)
        if first.samefile(second):
            return True
        ours, theirs = (weight_files(folder, SHARED_PARTS[name]) for folder in (first, second))
        return (
            same_settings(read_json(first / "config.json"), read_json(second / "config.json"))
            and len(ours) == len(theirs)
            and all(filecmp.cmp(one, other, shallow=False) for one, other in zip(ours, theirs, strict=True))
        )
    except (InputError, OSError):
        return False


@dataclass(frozen=True, eq=False)
class EmptyStage:
    """The networks of a stage on fake tensors: shapes and dtypes without data.

    Attributes:
        unet: 12 input channels.
        vae: the autoencoder of frames.
        image_encoder: makes the tokens.
        settings: stage, sampling defaults and presets, depth network.
    """

    unet: UNetSpatioTemporalConditionModel
    vae: Autoencoder
    image_encoder: CLIPVisionModelWithProjection
    settings: CheckpointSettings

    @property
    def networks(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """All three."""
        return self.unet, self.vae, self.image_encoder


def empty_stages(
    folders: Mapping[Stage, Path | None], *, dtype: torch.dtype, vae: Path | None = None
) -> dict[Stage, EmptyStage]:
    """Build the networks of stages from their configurations, without reading weights.

    Args:
        folders: the model of each stage; None for a checkpoint in the released layout that is not here, whose networks
            are Stable Video Diffusion's.
        dtype: as for :func:`~amodal_diffusion.models.hub.load_stage`.
        vae: light autoencoder in place of the stages' own.

    Raises:
        InputError: if a configuration is missing or damaged, or the folder does not have the stage.
    """
    built: dict[Stage, EmptyStage] = {}
    for stage, model in folders.items():
        folder = None if model is None else stage_folder(model, stage)
        if model is not None and folder is None:
            raise InputError(f"{model}: holds no {stage} stage")
        parts: dict[str, Any] = {}
        for name in ("unet", *SHARED_PARTS):
            same = [other for other in built if _is_planned_shared(name, folders, other, stage)]
            own = folder if folder is None else part_folder(folder, name)
            source = vae if name == "vae" and vae is not None else own
            parts[name] = getattr(built[same[0]], name) if same else _empty(name, source, dtype)
        settings = settings_of_released(stage) if folder is None else stage_settings(folder, stage)
        built[stage] = EmptyStage(**parts, settings=settings)
    return built


def _is_planned_shared(name: str, folders: Mapping[Stage, Path | None], *stages: Stage) -> bool:
    first, second = (folders[stage] for stage in stages)
    if name not in SHARED_PARTS or first is None or second is None:
        return name in SHARED_PARTS and first is second
    return _is_shared(name, (first, stages[0]), (second, stages[1]))


def svd_config(part: str) -> dict[str, Any]:
    """Configuration of a network of Stable Video Diffusion, the UNet with 12 input channels.

    Args:
        part: ``unet``, ``vae`` or ``image_encoder``.
    """
    return read_json(Path(str(files("amodal_diffusion") / "models" / "svd" / f"{part}.json")))


def _empty(part: str, folder: Path | None, dtype: torch.dtype) -> nn.Module:
    """One network on fake tensors, from the configuration in its folder or from Stable Video Diffusion's."""
    config = svd_config(part) if folder is None else read_json(folder / "config.json")
    network: Any
    with torch.device("meta"), building(folder or Path("svd"), nn.Module):
        if part == "unet":
            network = UNetSpatioTemporalConditionModel.from_config({**config, "in_channels": AMODAL_CHANNELS})
        elif part == "vae":
            network = autoencoder_class(config).from_config(config)
            dtype = autoencoder_dtype(config, dtype)
        else:
            network = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict({**config, "dtype": "float32"}))
        nn.Module.to(network.eval().requires_grad_(requires_grad=False), dtype)  # the classes' own `to` warns
    with FakeTensorMode(allow_non_fake_inputs=True):
        empty: nn.Module = network.to_empty(device="cpu")
    return empty
