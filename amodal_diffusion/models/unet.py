"""The denoising UNet: Stable Video Diffusion's stock class with 12 input channels, from any layout of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import Attention, Trainable
from amodal_diffusion.models.lora import is_adapter
from amodal_diffusion.models.weights import building, check_layer_counts, load_strictly, read_json, read_state_dict

AMODAL_CHANNELS = 12  # noisy amodal latent 4, modal latent 4, guide latent 4
STEM = "diffusion_pytorch_model"


def load_amodal_unet(folder: str | Path, *, dtype: torch.dtype | None = None) -> UNetSpatioTemporalConditionModel:
    """Load a 12-channel UNet in this package's layout or in the released one.

    The released layout says ``in_channels: 8`` and holds both ``conv_in.*`` (unused) and ``conv_in2.*`` (12
    channels, in use): the first is dropped and the second takes its name.

    Args:
        folder: the ``unet`` folder with ``config.json`` and safetensors weights (plain, sharded or ``.fp16``).
        dtype: dtype of the weights; float32 when None.

    Returns:
        the stock network in evaluation mode.

    Raises:
        InputError: if a file is missing, is no safetensors file, or has keys other than this network's.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    state = read_state_dict(folder, STEM)
    if "conv_in2.weight" in state:
        state = {key: value for key, value in state.items() if not key.startswith("conv_in.")}
        state = {key.replace("conv_in2.", "conv_in.", 1): value for key, value in state.items()}
        config["in_channels"] = AMODAL_CHANNELS
    elif config.get("in_channels") != AMODAL_CHANNELS:
        raise InputError(
            f"{folder}: a UNet with {config.get('in_channels')} input channels and no conv_in2 weights; expected "
            f"{AMODAL_CHANNELS} channels: this is a base to train from, not an amodal checkpoint"
        )
    return _build(config, state, folder, dtype)


def load_svd_unet(folder: str | Path, *, dtype: torch.dtype | None = None) -> UNetSpatioTemporalConditionModel:
    """Load a plain 8-channel Stable Video Diffusion UNet and inflate it to 12 channels for training.

    Args:
        folder: the ``unet`` folder.
        dtype: dtype of the weights; float32 when None.

    Raises:
        InputError: as :func:`load_amodal_unet`.
    """
    folder = Path(folder)
    return inflate_conv_in(_build(read_json(folder / "config.json"), read_state_dict(folder, STEM), folder, dtype))


def inflate_conv_in(
    unet: UNetSpatioTemporalConditionModel, in_channels: int = AMODAL_CHANNELS
) -> UNetSpatioTemporalConditionModel:
    """Widen ``conv_in``: old input channels keep weights and bias, the new ones start at zero (paper, section 4).

    The widened network therefore equals the old one whatever the new channels hold.

    Args:
        unet: changed in place; its ``conv_in.weight`` goes from ``[C, old, 3, 3]`` to ``[C, in_channels, 3, 3]``.
        in_channels: new number of input channels, at least the old one.

    Returns:
        the same network.

    Raises:
        InputError: if the network has more input channels already.
    """
    old = unet.conv_in
    if old.in_channels > in_channels:
        raise InputError(f"in_channels: expected at least the network's {old.in_channels}, got {in_channels}")
    new = nn.Conv2d(in_channels, old.out_channels, old.kernel_size, padding=old.padding)
    new = new.to(device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.bias = old.bias
    unet.conv_in = new
    unet.register_to_config(in_channels=in_channels)
    return unet


def trainable_parameters(unet: UNetSpatioTemporalConditionModel, choice: Trainable) -> list[nn.Parameter]:
    """Choose what is trained, and freeze the rest.

    Args:
        unet: its parameters' ``requires_grad`` is set.
        choice: ``"paper"`` for the temporal transformer blocks and ``conv_in`` (398 M of 1.525 G at full size),
            ``"all"`` for everything, ``"lora"`` for the adapters of :func:`~amodal_diffusion.models.lora.add_adapters`
            and ``conv_in``, whose new channels have nothing yet that a low-rank update could lean on.

    Raises:
        InputError: on another choice.
    """
    if choice not in ("paper", "all", "lora"):
        raise InputError(f"trainable: expected 'paper', 'all' or 'lora', got {choice!r}")
    for name, parameter in unet.named_parameters():
        in_block = is_adapter(name) if choice == "lora" else "temporal_transformer_block" in name
        parameter.requires_grad_(choice == "all" or in_block or name.startswith("conv_in."))
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def use_attention(unet: UNetSpatioTemporalConditionModel, attention: Attention, *, option: str) -> None:
    """Choose how a network computes attention.

    Args:
        unet: changed in place.
        attention: ``"sdpa"`` is torch's fused attention, ``"plain"`` multiplies matrices, ``"xformers"`` is the extra
            of that name, for GPUs.
        option: name of the option, for the error.

    Raises:
        InputError: if there is no such way, or xformers is not installed or has no kernel here.
    """
    if attention not in get_args(Attention):
        raise InputError(f"{option}: expected {', '.join(get_args(Attention))}, got {attention!r}")
    if attention == "plain":
        unet.set_default_attn_processor()
    elif attention == "xformers":
        try:
            unet.enable_xformers_memory_efficient_attention()
        except ModuleNotFoundError as error:
            raise InputError(
                f"{option}: xformers is not installed; pip install 'amodal-diffusion[xformers]', or give sdpa"
            ) from error
        except (ValueError, NotImplementedError) as error:  # xformers has kernels for GPUs alone
            raise InputError(f"{option}: xformers does not run here ({error}); give sdpa") from error


@contextmanager
def one_token_per_frame(unet: UNetSpatioTemporalConditionModel) -> Iterator[None]:
    """Let each frame attend to its own token alone, as the reference does at inference.

    The stock network hands all ``F`` tokens of a clip to each of its frames, ``[B*F, F, D]``. Within this
    context every spatio-temporal transformer sees ``[B*F, 1, D]`` instead: row ``b*F + f`` keeps token ``f``.
    """
    hooks = [
        module.register_forward_pre_hook(_keep_own_token, with_kwargs=True)
        for module in unet.modules()
        if isinstance(module, TransformerSpatioTemporalModel)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def has_one_token_per_frame(unet: UNetSpatioTemporalConditionModel) -> bool:
    """Whether this is within :func:`one_token_per_frame` of a network; what is compiled or captured depends on it."""
    return _keep_own_token in unet.mid_block.attentions[0]._forward_pre_hooks.values()


def _keep_own_token(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    tokens: Tensor = kwargs["encoder_hidden_states"]  # [B*F, F, D]
    rows = torch.arange(tokens.shape[0], device=tokens.device)
    own = tokens[rows, rows % tokens.shape[1]].unsqueeze(1)  # [B*F, 1, D]
    return args, {**kwargs, "encoder_hidden_states": own}


def _build(
    config: dict[str, object], state: dict[str, Tensor], source: Path, dtype: torch.dtype | None
) -> UNetSpatioTemporalConditionModel:
    check_layer_counts(config, source)
    with torch.device("meta"), building(source, UNetSpatioTemporalConditionModel):  # no second copy in memory
        unet = UNetSpatioTemporalConditionModel.from_config(config)
    load_strictly(unet, {key: value.to(dtype or torch.float32) for key, value in state.items()}, source=source)
    return unet.eval()
