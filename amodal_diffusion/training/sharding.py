"""The parameters that are trained, which may lie in shares in several processes (FSDP): whole for a file, and back."""

from __future__ import annotations

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Those that require gradients, by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def reshard(network: nn.Module) -> None:
    """Put a network that lies in shares back into them; outside of training its last forward pass leaves some whole."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(value: Tensor) -> Tensor:
    """All of a tensor; where it lies in shares, all processes call this together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, target: Tensor) -> Tensor:
    """A whole tensor in the shares of another; all processes call this together with the same value."""
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)


def whole_network(unet: UNetSpatioTemporalConditionModel) -> UNetSpatioTemporalConditionModel:
    """A network itself, or a whole copy on the CPU of one that lies in shares; all processes call this together."""
    if not any(isinstance(value, DTensor) for value in unet.parameters()):
        return unet
    weights = {name: whole(value).cpu() for name, value in unet.state_dict().items()}
    with torch.device("meta"):
        copy = UNetSpatioTemporalConditionModel.from_config(unet.config)
    copy.load_state_dict(weights, assign=True)
    return copy
