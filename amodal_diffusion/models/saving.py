"""From the networks of a stage or a model to a folder in this package's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderTiny
from safetensors import SafetensorError
from torch import nn

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.io.atomic import replacing_folder, write_digests
from amodal_diffusion.models.checkpoint import write_settings
from amodal_diffusion.models.hub import StageComponents, load_stage
from amodal_diffusion.models.weights import read_json


def save_stage(components: StageComponents, folder: Path) -> None:
    """Write one stage in this package's layout, with the digests of its files.

    Args:
        components: what to write.
        folder: made if needed; must be empty or not exist.

    Raises:
        InputError: if the folder holds something already.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty; choose another folder, nothing is overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    save_network(components.unet, folder / "unet")
    save_network(components.vae, folder / "vae")
    save_network(components.image_encoder, folder / "image_encoder")
    components.scheduler.save_pretrained(folder / "scheduler")
    write_settings(components.settings, folder)
    write_digests(folder)


def save_network(network: Any, folder: Path) -> None:  # noqa: ANN401 - of diffusers or transformers
    """Write a network's settings and weights, these as safetensors.

    Args:
        network: with ``save_pretrained``.
        folder: made if needed.

    Raises:
        InputError: if the disk is full.
    """
    try:
        network.save_pretrained(folder, safe_serialization=True)
    except SafetensorError as error:
        raise InputError(f"{folder}: cannot be written ({error}); make room and give the same command again") from error
    unwanted = {"_name_or_path"}  # where it was read from: a path of this machine
    if isinstance(network, AutoencoderTiny):
        unwanted.add("block_out_channels")  # which it writes, and warns of when it reads it again
    path = folder / "config.json"
    config = read_json(path)
    if unwanted & config.keys():
        kept = {name: value for name, value in config.items() if name not in unwanted}
        path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def save_model(
    stages: Sequence[StageComponents], folder: Path, *, dtype: Literal["float32", "float16"] = "float32"
) -> None:
    """Write a model of one or both stages; what they have in common is written once.

    Args:
        stages: of one model. A later stage's autoencoder or image encoder that is not the first's goes to its own
            folder; the scheduler is taken from the first.
        folder: made if needed; must be empty or not exist.
        dtype: dtype of the weights in the files; the networks are changed to it in place.

    Raises:
        InputError: if the folder holds something already.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty; choose another folder, nothing is overwritten")
    precision = torch.float16 if dtype == "float16" else torch.float32
    for components in stages:
        for network in (components.unet, components.vae, components.image_encoder):
            network.to(precision)
    first = stages[0]
    first.scheduler.save_pretrained(folder / "scheduler")
    for components in stages:
        target = folder / components.settings.stage
        target.mkdir(parents=True)
        save_network(components.unet, target / "unet")
        for part in ("vae", "image_encoder"):
            network = getattr(components, part)
            if components is first:
                save_network(network, folder / part)
            elif not _equal(network, getattr(first, part)):
                save_network(network, target / part)
        write_settings(components.settings, target)
    write_digests(folder)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights and, if they scale latents, the same factor."""
    scales = [getattr(network.config, "scaling_factor", None) for network in (one, other)]
    first, second = one.state_dict(), other.state_dict()
    same_names = first.keys() == second.keys() and scales[0] == scales[1]
    return same_names and all(torch.equal(first[name], second[name]) for name in first)


def convert(source: str | Path, destination: Path, *, stage: Stage) -> None:
    """Write a checkpoint of any readable layout in this package's layout, whole or not at all.

    Args:
        source: as for :func:`find_model`.
        destination: the stage goes to ``destination/STAGE``, so that both stages fit in one model folder.
        stage: which stage the source was trained for.

    Raises:
        InputError: if the source cannot be read or the destination holds this stage already.
    """
    target = destination / stage
    if target.exists():
        raise InputError(f"{target}: exists; choose another folder, nothing is overwritten")
    components = load_stage(source, stage=stage)
    settings = replace(components.settings, stage=stage)
    with replacing_folder(target) as partial:
        save_stage(replace(components, settings=settings), partial)
