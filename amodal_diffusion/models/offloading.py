"""Weights that wait in CPU memory until a device needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import torch
from diffusers import DiffusionPipeline
from torch import nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import Offload

_CPU = torch.device("cpu")


def place_networks(
    pipelines: Sequence[DiffusionPipeline], device: torch.device, offload: Offload, *, option: str
) -> None:
    """Put the networks of pipelines on a device, or have them come there when they are called.

    Args:
        pipelines: changed in place; they may have networks in common.
        device: where the networks run.
        offload: ``"none"`` keeps all weights on the device, ``"model"`` one network at a time, ``"sequential"`` one
            layer at a time, which takes the least memory and the most time.
        option: name of the option, for the error.

    Raises:
        InputError: if there is no such way, or the device is the CPU, which has all weights at hand.
    """
    check_offload(device, offload, option=option)
    if offload == "model":
        take_turns(pipelines, device)
        return
    for pipeline in pipelines:
        if offload == "none":
            pipeline.to(device, silence_dtype_warnings=True)
        else:
            pipeline.enable_sequential_cpu_offload(device=device)


def check_offload(device: torch.device, offload: Offload, *, option: str) -> None:
    """Refuse an unknown way to offload, or one from the CPU; arguments and errors as for :func:`place_networks`."""
    if offload not in get_args(Offload):
        raise InputError(f"{option}: expected {', '.join(get_args(Offload))}, got {offload!r}")
    if offload != "none" and device.type == "cpu":
        raise InputError(
            f"{option}: {offload} moves weights to a GPU when it needs them, and this runs on the CPU; leave it out"
        )


def take_turns(pipelines: Sequence[DiffusionPipeline], device: torch.device) -> None:
    """Keep on a device the network alone that was called last.

    The pipelines' own ``enable_model_cpu_offload`` chains the networks of one pipeline: with networks that two
    pipelines share, the UNet of one would stay on the device while the VAE decodes for the other.

    Args:
        pipelines: changed in place; they may have networks in common.
        device: where the networks run.
    """
    components = [part for pipeline in pipelines for part in pipeline.components.values()]
    networks = list({id(part): part for part in components if isinstance(part, nn.Module)}.values())
    turns = _Turns(device)
    for network in networks:
        network.to(_CPU)
        # diffusers calls the hook of this name in `encode` and `decode`, and asks it for the device
        network._hf_hook = turns  # type: ignore[assignment]  # its place for Accelerate's hooks
        network.register_forward_pre_hook(turns.pre_forward)


class _Turns:
    """Moves the network that is called to a device, and the one before it back to the CPU.

    Attributes:
        execution_device: where the networks run.
    """

    def __init__(self, device: torch.device) -> None:
        self.execution_device = device
        self._present: nn.Module | None = None

    def pre_forward(self, network: nn.Module, *_: Any) -> None:  # noqa: ANN401 - what the network is called with
        """Called before a network computes."""
        if self._present is network:
            return
        if self._present is not None:
            self._present.to(_CPU)
            self._present = None
        try:
            network.to(self.execution_device)
        except torch.OutOfMemoryError:
            network.to(_CPU)  # what has been moved already
            raise
        self._present = network


def execution_device(network: nn.Module) -> torch.device:
    """Where a network computes: where its hooks move its weights to, or else where its weights are.

    Args:
        network: with parameters.
    """
    for module in network.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(network.parameters()).device
