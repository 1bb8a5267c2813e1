"""Low-rank adapters on the temporal transformer blocks (peft), and the network with them folded into its weights."""

from __future__ import annotations

import torch
from diffusers import UNetSpatioTemporalConditionModel

from amodal_diffusion.basics import InputError

# Every linear layer of the blocks that the paper trains: attention and feed-forward.
_TARGETS = r".*temporal_transformer_blocks\..*\.(to_q|to_k|to_v|to_out\.0|proj|net\.2)"
_ADAPTER = "amodal"


def add_adapters(unet: UNetSpatioTemporalConditionModel, *, rank: int, alpha: float, seed: int) -> None:
    """Put a low-rank update beside every linear layer of the temporal transformer blocks, zero at the start.

    A layer then computes ``W x + (alpha / rank) B A x`` with ``A [rank, in]`` random and ``B [out, rank]`` zero.

    Args:
        unet: changed in place: its adapted layers gain parameters ``lora_A`` and ``lora_B``, float32.
        rank: of the updates, at least 1.
        alpha: the updates are multiplied by ``alpha / rank``.
        seed: of ``A``.

    Raises:
        InputError: if peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise InputError(
            "model.trainable: lora needs the package peft; pip install 'amodal-diffusion[peft]'"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(
            LoraConfig(r=rank, lora_alpha=alpha, target_modules=_TARGETS), unet, adapter_name=_ADAPTER
        )


def without_adapters(unet: UNetSpatioTemporalConditionModel) -> UNetSpatioTemporalConditionModel:
    """The stock network that computes the same, with the adapters folded into its weights.

    Args:
        unet: left as it is.

    Returns:
        ``unet`` itself if it has no adapters; else another network that shares all weights that were not adapted,
        and whose adapted ones are float32.
    """
    state = unet.state_dict()
    if not any(is_adapter(name) for name in state):
        return unet
    from peft.tuners.lora import LoraLayer

    plain = {name.replace(".base_layer.", "."): value for name, value in state.items() if not is_adapter(name)}
    for name, layer in unet.named_modules():
        if isinstance(layer, LoraLayer):
            # Not in the dtype of the frozen weight, which may be bfloat16: most of the update would be rounded away.
            update = layer.get_delta_weight(_ADAPTER).detach().float()
            plain[f"{name}.weight"] = layer.get_base_layer().weight.detach().float() + update
    with torch.device("meta"):  # the tensors above become the parameters
        whole = UNetSpatioTemporalConditionModel.from_config(unet.config)
    whole.load_state_dict(plain, strict=True, assign=True)
    return whole.eval()


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name
