"""Networks at the start of training, from a checkpoint, Stable Video Diffusion or random weights, and the optimizer."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.checkpoint import CheckpointSettings
from amodal_diffusion.models.hub import (
    StageComponents,
    load_image_encoder,
    load_scheduler,
    load_stage,
    load_svd,
    load_vae,
)
from amodal_diffusion.models.lora import add_adapters
from amodal_diffusion.models.unet import AMODAL_CHANNELS, trainable_parameters, use_attention
from amodal_diffusion.training.run_settings import Precision
from amodal_diffusion.training.settings import (
    ImageEncoderSettings,
    OptimizerSettings,
    TrainingSettings,
    UNetSettings,
)

logger = logging.getLogger(__name__)


def build_components(settings: TrainingSettings) -> StageComponents:
    """Load or create the networks; the UNet is in float32 for training.

    Args:
        settings: resolved training settings.

    Returns:
        the networks, with the sampling settings for the exported checkpoint.

    Raises:
        InputError: if a component is missing or does not fit the others.
    """
    model = settings.model
    if model.base is not None and model.svd is not None:
        raise InputError("model.base, model.svd: both are given; a run starts from one of them")
    if model.base is not None:
        components = load_stage(model.base, stage=settings.stage)
    elif model.svd is not None:
        components = load_svd(model.svd, stage=settings.stage)
    else:
        components = _from_scratch(settings)
    has_base = model.base is not None or model.svd is not None
    if has_base and model.vae is not None:
        components = replace(components, vae=load_vae(model.vae))
    if has_base and model.image_encoder is not None:
        components = replace(components, image_encoder=load_image_encoder(model.image_encoder))
    if model.scheduler is not None:
        components = replace(components, scheduler=load_scheduler(model.scheduler))
    _check_widths(components)
    return replace(components, settings=_exported_settings(settings, components.settings))


def _exported_settings(settings: TrainingSettings, base: CheckpointSettings) -> CheckpointSettings:
    """Settings of the exported checkpoint; the presets of the base stay where sampling is the base's."""
    depth_model = settings.model.depth_model or base.depth_model
    if settings.sampling == base.sampling:
        return replace(base, stage=settings.stage, depth_model=depth_model)
    if settings.model.base is not None and os.environ.get("RANK", "0") == "0":
        logger.info(
            "sampling: the model is validated and exported with these settings, which are not all those of %s",
            settings.model.base,
        )
    return CheckpointSettings(settings.stage, settings.sampling, depth_model)


def build_unet(settings: UNetSettings, *, seed: int) -> UNetSpatioTemporalConditionModel:
    """Create a diffusers UNet with 12 input channels and random weights.

    Args:
        settings: shape of the UNet.
        seed: random seed of the weights.
    """
    levels = range(len(settings.block_out_channels))
    down = tuple(
        "CrossAttnDownBlockSpatioTemporal" if level in settings.attention_levels else "DownBlockSpatioTemporal"
        for level in levels
    )
    up = tuple(
        "CrossAttnUpBlockSpatioTemporal" if level in settings.attention_levels else "UpBlockSpatioTemporal"
        for level in reversed(levels)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNetSpatioTemporalConditionModel(
            in_channels=AMODAL_CHANNELS,
            down_block_types=down,
            up_block_types=up,
            block_out_channels=settings.block_out_channels,
            layers_per_block=settings.layers_per_block,
            transformer_layers_per_block=settings.transformer_layers_per_block,
            num_attention_heads=settings.num_attention_heads,
            cross_attention_dim=settings.cross_attention_dim,
            addition_time_embed_dim=settings.addition_time_embed_dim,
            projection_class_embeddings_input_dim=3 * settings.addition_time_embed_dim,
        )


def build_scheduler() -> EulerDiscreteScheduler:
    """Stable Video Diffusion's scheduler: continuous timesteps, Karras sigmas from 0.002 to 700, v-prediction."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        interpolation_type="linear",
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
    )


def build_image_encoder(settings: ImageEncoderSettings, *, tokens: int) -> CLIPVisionModelWithProjection:
    """Create a frozen CLIP image encoder with random weights.

    Args:
        settings: shape and random seed of the encoder.
        tokens: width ``D`` of its tokens.
    """
    config = CLIPVisionConfig(
        image_size=settings.image_size,
        patch_size=settings.patch_size,
        hidden_size=settings.hidden_size,
        intermediate_size=4 * settings.hidden_size,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=settings.num_attention_heads,
        projection_dim=tokens,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return CLIPVisionModelWithProjection(config).eval().requires_grad_(requires_grad=False)


def _from_scratch(settings: TrainingSettings) -> StageComponents:
    model = settings.model
    if model.vae is None:
        raise InputError("model.vae: expected a folder where neither model.base nor model.svd is given")
    if model.trainable != "all":
        raise InputError(
            f"model.trainable: a UNet with random weights is trained whole; expected all, got {model.trainable}"
        )
    if model.image_encoder is not None:
        image_encoder = load_image_encoder(model.image_encoder)
    else:
        image_encoder = build_image_encoder(model.new_image_encoder, tokens=model.unet.cross_attention_dim)
    return StageComponents(
        unet=build_unet(model.unet, seed=settings.seed),
        vae=load_vae(model.vae),
        image_encoder=image_encoder,
        scheduler=build_scheduler(),
        settings=CheckpointSettings(settings.stage),
    )


def _check_widths(components: StageComponents) -> None:
    attended = components.unet.config.cross_attention_dim
    tokens = components.image_encoder.config.projection_dim
    widths = set(attended) if isinstance(attended, (tuple, list)) else {attended}
    if widths != {tokens}:
        raise InputError(
            f"model.image_encoder: makes tokens of width {tokens}, the UNet attends to {attended}; they must agree"
        )


COMPUTE_DTYPES: dict[Precision, torch.dtype] = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prepare_unet(
    unet: UNetSpatioTemporalConditionModel, settings: TrainingSettings, *, whole: bool = True
) -> list[nn.Parameter]:
    """Prepare a UNet for training: trainable parameters, dtypes, attention and gradient checkpointing.

    Trained parameters stay in float32: at a learning rate of 3e-6, most updates would vanish in bfloat16 rounding.

    Args:
        unet: UNet in float32, changed in place.
        settings: resolved training settings.
        whole: whether each process holds the complete network. A sharded one (FSDP, DeepSpeed) stays in float32,
            because these libraries need a single dtype and convert it themselves.

    Returns:
        the trained parameters, float32.

    Raises:
        InputError: if a package that the settings need is not installed.
    """
    model = settings.model
    if model.trainable == "lora":
        add_adapters(unet, rank=model.lora.rank, alpha=model.lora.alpha, seed=settings.seed)
    parameters = trainable_parameters(unet, model.trainable)
    if whole:
        narrow_frozen(unet, COMPUTE_DTYPES[settings.mixed_precision])
    use_attention(unet, model.attention, option="model.attention")
    if model.gradient_checkpointing:
        checkpoint_activations(unet)
    return parameters.copy()


def narrow_frozen(unet: nn.Module, dtype: torch.dtype) -> None:
    """Convert the frozen weights of linear and convolution layers to the dtype of autocast, to save memory.

    The result under autocast does not change, because autocast would round the same weights in every step. All other
    parameters, such as those of normalization layers, keep their dtype.

    Args:
        unet: network, changed in place; parameters without ``requires_grad`` are frozen.
        dtype: dtype of autocast.
    """
    for layer in unet.modules():
        if isinstance(layer, _MATRIX_LAYERS):
            for parameter in layer.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)


def checkpoint_activations(unet: UNetSpatioTemporalConditionModel) -> None:
    """Enable gradient checkpointing, including the temporal transformer blocks, which diffusers leaves out.

    Args:
        unet: UNet, changed in place.
    """
    unet.enable_gradient_checkpointing()
    for name, block in unet.named_modules():
        if name.rpartition(".")[0].endswith("temporal_transformer_blocks"):
            block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - any layer's
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def make_optimizer(parameters: Sequence[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Create AdamW, with its two moments in float32 or in 8 bits.

    Args:
        parameters: the trained parameters.
        settings: name and hyperparameters of the optimizer.

    Raises:
        InputError: if ``adamw8bit`` is chosen and bitsandbytes is not installed.
    """
    if settings.name == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            eps=settings.epsilon,
            fused=True,
        )
    try:
        from bitsandbytes.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise InputError(
            "optimizer.name: adamw8bit needs the package bitsandbytes; pip install 'amodal-diffusion[bitsandbytes]'"
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        eps=settings.epsilon,
    )
    return optimizer
