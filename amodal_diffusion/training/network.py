"""What a run's settings make of the UNet before training: what is trained, in which dtype, with which attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from amodal_diffusion.models.lora import add_adapters
from amodal_diffusion.models.unet import trainable_parameters
from amodal_diffusion.training.network_settings import Attention
from amodal_diffusion.training.settings import Precision, TrainingSettings
from amodal_diffusion.types import InputError

COMPUTE_DTYPES: dict[Precision, torch.dtype] = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prepare_unet(
    unet: UNetSpatioTemporalConditionModel, settings: TrainingSettings, *, whole: bool = True
) -> list[nn.Parameter]:
    """Make a network ready to be trained as the settings say.

    What is trained stays float32: at a learning rate of 3e-6 most steps are smaller than bfloat16 can tell from none.

    Args:
        unet: float32, changed in place.
        settings: of the run.
        whole: whether each process holds the network whole; where it is in shards (FSDP, DeepSpeed) all of it stays
            float32, as they want one dtype and convert it themselves.

    Returns:
        the parameters that are trained, float32.

    Raises:
        InputError: if a package that the settings need is missing.
    """
    model = settings.model
    if model.trainable == "lora":
        add_adapters(unet, rank=model.lora.rank, alpha=model.lora.alpha, seed=settings.seed)
    parameters = trainable_parameters(unet, model.trainable)
    if whole:
        narrow_frozen(unet, COMPUTE_DTYPES[settings.mixed_precision])
    _use_attention(unet, model.attention)
    if model.gradient_checkpointing:
        checkpoint_activations(unet)
    return parameters.copy()


def narrow_frozen(unet: nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen weights of linear and convolution layers in the dtype that autocast computes these layers in.

    The result of a step under autocast does not change: autocast would round the same weights each time. All other
    parameters, such as those of normalisations, keep their dtype.

    Args:
        unet: changed in place; ``requires_grad`` says what is frozen.
        dtype: of the computations.
    """
    for layer in unet.modules():
        if isinstance(layer, _MATRIX_LAYERS):
            for parameter in layer.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)


def checkpoint_activations(unet: UNetSpatioTemporalConditionModel) -> None:
    """Compute activations again in the backward pass in place of keeping them.

    diffusers leaves out the temporal transformer blocks, whose activations are a large part of all.

    Args:
        unet: changed in place.
    """
    unet.enable_gradient_checkpointing()
    for name, block in unet.named_modules():
        if name.rpartition(".")[0].endswith("temporal_transformer_blocks"):
            block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - any layer's
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _use_attention(unet: UNetSpatioTemporalConditionModel, attention: Attention) -> None:
    if attention == "plain":
        unet.set_default_attn_processor()
    elif attention == "xformers":
        try:
            unet.enable_xformers_memory_efficient_attention()
        except ModuleNotFoundError as error:
            raise InputError(
                "model.attention: xformers is not installed; pip install 'amodal-diffusion[xformers]', or give sdpa"
            ) from error
        except (ValueError, NotImplementedError) as error:  # it has kernels for GPUs alone
            raise InputError(f"model.attention: xformers does not run here ({error}); give sdpa") from error
