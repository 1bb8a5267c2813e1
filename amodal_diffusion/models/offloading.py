"""Weights that wait in CPU memory until a device needs them."""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline
from torch import nn

from amodal_diffusion.config import Offload
from amodal_diffusion.types import InputError


def place_networks(pipeline: DiffusionPipeline, device: torch.device, offload: Offload, *, option: str) -> None:
    """Put the networks of a pipeline on a device, or have them come there when they are called.

    Args:
        pipeline: changed in place.
        device: where the networks run.
        offload: ``"none"`` keeps all weights on the device, ``"model"`` one network at a time, ``"sequential"`` one
            layer at a time, which takes the least memory and the most time.
        option: name of the option, for the error.

    Raises:
        InputError: if the device is the CPU, which has all weights at hand.
    """
    if offload == "none":
        pipeline.to(device)
    elif device.type == "cpu":
        raise InputError(
            f"{option}: {offload} moves weights to a GPU when it needs them, and this runs on the CPU; leave it out"
        )
    elif offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def execution_device(network: nn.Module) -> torch.device:
    """Where a network computes: where Accelerate's hooks move its weights to, or else where its weights are.

    Args:
        network: with parameters.
    """
    for module in network.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(network.parameters()).device
