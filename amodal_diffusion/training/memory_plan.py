"""Memory plan of a training run: the memory that a process will need, and settings that reduce it.

The plan simulates a training step on torch's fake tensors, which have shapes but no data. Networks, loss and settings
are those of the run, but no weights are loaded and no large memory is allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForDepthEstimation, CLIPVisionConfig, CLIPVisionModelWithProjection

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.conditioning import clip_tokens
from amodal_diffusion.models.hub import find_model, part_folder, stage_folder
from amodal_diffusion.models.hub_ids import hub_place
from amodal_diffusion.models.latents import Autoencoder, autoencoder_class, encode_video, spatial_factor
from amodal_diffusion.models.memory import bytes_of, format_bytes, peak_bytes
from amodal_diffusion.models.unet import AMODAL_CHANNELS
from amodal_diffusion.models.weights import read_json
from amodal_diffusion.training.latent_cache import computes_depth
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.log import describe_step
from amodal_diffusion.training.loss import training_loss
from amodal_diffusion.training.networks import COMPUTE_DTYPES, build_image_encoder, build_unet, prepare_unet
from amodal_diffusion.training.settings import TrainingSettings

_FLOAT32 = 4
_MOMENT_BYTES = {"adamw": 2 * 4, "adamw8bit": 2}  # both moments of a weight together


@dataclass(frozen=True)
class MemoryPlan:
    """Peak memory of a process, by purpose, in bytes; the first two attributes are numbers of parameters.

    Attributes:
        parameters: number of parameters of the UNet.
        trained: number of trained parameters.
        weights: weights of the UNet.
        gradients: gradients of the trained parameters.
        optimizer: optimizer moments of the trained parameters.
        average: EMA of the trained parameters.
        frozen: weights of VAE and image encoder; 0 if the clips are encoded beforehand.
        depth: weights of the depth network, if it runs on the training device and its files are available locally.
        encoding: additional peak while VAE and image encoder encode a batch, before the UNet runs.
        activations: additional peak of the UNet's forward and backward pass over a batch, temporaries included.
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    frozen: int
    depth: int
    encoding: int
    activations: int

    @property
    def total(self) -> int:
        """Peak of the total memory in bytes."""
        held = self.weights + self.gradients + self.optimizer + self.average + self.frozen + self.depth
        return held + max(self.encoding, self.activations)


def plan_memory(settings: TrainingSettings) -> MemoryPlan:
    """Compute the memory of a process that holds the complete, unsharded network.

    Args:
        settings: resolved training settings.

    Raises:
        InputError: if the configuration of a network cannot be read, or a required package is not installed.
    """
    # Both attention kernels store the same activations, and that of xformers does not support fake tensors.
    attention = "sdpa" if settings.model.attention == "xformers" else settings.model.attention
    settings = replace(settings, model=replace(settings.model, attention=attention))
    with torch.device("meta"):
        unet, vae, image_encoder = _networks(settings)
        trained = sum(parameter.numel() for parameter in prepare_unet(unet.train(), settings))
    encodes = not settings.data.encoded
    with FakeTensorMode(allow_non_fake_inputs=True):
        for network in (unet, vae, image_encoder):
            network.to_empty(device="cpu")  # fake as well; autocast needs an existing device
        return MemoryPlan(
            parameters=sum(parameter.numel() for parameter in unet.parameters()),
            trained=trained,
            weights=bytes_of(unet),
            gradients=trained * _FLOAT32,
            optimizer=trained * _MOMENT_BYTES[settings.optimizer.name],
            average=trained * _FLOAT32 if settings.optimizer.ema_decay else 0,
            frozen=bytes_of(vae) + bytes_of(image_encoder) if encodes else 0,
            depth=_depth(settings),
            encoding=_encoding(settings, vae, image_encoder) if encodes else 0,
            activations=_activations(settings, unet, factor=spatial_factor(vae)),
        )


def report(settings: TrainingSettings, *, processes: int) -> str:
    """Format the memory plan as YAML comments.

    Args:
        settings: resolved training settings.
        processes: number of processes of the launch.

    Raises:
        InputError: if ``global_batch_size`` does not fit the number of processes.
    """
    lines = [describe_step(settings.batch_size, processes, settings.batches_per_step(processes))]
    try:
        lines += list(_plan_lines(settings))
    except InputError as error:
        lines.append(f"no memory plan: {' '.join(str(error).split())}")
    return "".join(f"# {line}\n" for line in lines)


def _plan_lines(settings: TrainingSettings) -> Iterator[str]:
    plan, data = plan_memory(settings), settings.data
    millions = f"{plan.parameters / 1e6:.1f} M parameters, {plan.trained / 1e6:.1f} M trained"
    size = f"{settings.batch_size} x {data.frames} x {data.height}x{data.width}"
    yield f"memory per process on a {'CPU' if settings.cpu else 'GPU'}, from a simulated step:"
    for name, amount in {
        f"UNet, {millions}": plan.weights,
        "gradients": plan.gradients,
        f"optimizer {settings.optimizer.name}": plan.optimizer,
        "moving average": plan.average,
        "VAE and image encoder": plan.frozen,
        "depth network": plan.depth,
        f"activations of {size}": plan.activations,
        "or before that, encoding of the clips": plan.encoding,
        "total": plan.total,
    }.items():
        yield f"  {name:<56}{format_bytes(amount)}"
    yield "  plus 1 to 2 GiB for the driver, library workspaces and fragmentation"
    yield "to reduce it, in this order:"
    for change, saved in _changes(settings, plan):
        yield f"  {change:<56}{format_bytes(-saved)}"
    yield "  sharding over several GPUs: configs/accelerate/fsdp.yaml"


def _changes(settings: TrainingSettings, plan: MemoryPlan) -> Iterator[tuple[str, int]]:
    """Settings that reduce memory, with the bytes that each saves by itself; those that cost least come first."""
    model, optimizer = settings.model, settings.optimizer

    def saved_by(**changes: Any) -> int:  # noqa: ANN401 - any settings
        return plan.total - plan_memory(replace(settings, **changes)).total

    if settings.data.cache is None and not settings.data.sources:
        without = replace(plan, frozen=0, encoding=0)
        yield "data.cache: DIR, filled by train/precompute.py", plan.total - without.total
    if plan.depth:
        yield "data.workers: 2, to estimate depth on the CPU", plan.depth
    if settings.batch_size > 1:
        yield "batch_size: 1, with global_batch_size unchanged", saved_by(batch_size=1)
    if settings.mixed_precision == "no":
        yield "mixed_precision: bf16", saved_by(mixed_precision="bf16")
    if optimizer.name == "adamw":
        change = replace(plan, optimizer=plan.trained * _MOMENT_BYTES["adamw8bit"])
        yield "optimizer.name: adamw8bit", plan.total - change.total
    if not model.gradient_checkpointing:
        change_of_model = replace(model, gradient_checkpointing=True)
        yield "model.gradient_checkpointing: true, a third slower", saved_by(model=change_of_model)
    if optimizer.ema_decay:
        yield "optimizer.ema_decay: 0", plan.average
    if model.trainable != "lora" and (model.svd or model.base):
        # The blocks then need no gradients or moments, and their weights are narrower; the adapters are negligible.
        narrow = COMPUTE_DTYPES[settings.mixed_precision].itemsize
        weights = plan.trained * (_FLOAT32 - narrow)
        yield "model.trainable: lora, about", weights + plan.gradients + plan.optimizer + plan.average


def _networks(
    settings: TrainingSettings,
) -> tuple[UNetSpatioTemporalConditionModel, Autoencoder, CLIPVisionModelWithProjection]:
    """Build the networks from their configurations, without weights."""
    model = settings.model
    folder = _base_folder(settings)
    if folder is None and model.vae is None:
        raise InputError("model.vae: expected a folder where neither model.base nor model.svd is given")

    def config_of(part: str, own: Path | None) -> dict[str, Any]:
        return read_json((own or part_folder(folder or Path(), part)) / "config.json")

    vae_config = config_of("vae", model.vae)
    vae = autoencoder_class(vae_config).from_config(vae_config).requires_grad_(requires_grad=False)
    if folder is None:
        unet = build_unet(model.unet, seed=settings.seed)
    else:
        unet = UNetSpatioTemporalConditionModel.from_config({**config_of("unet", None), "in_channels": AMODAL_CHANNELS})
    if folder is None and model.image_encoder is None:
        encoder = build_image_encoder(model.new_image_encoder, tokens=model.unet.cross_attention_dim)
    else:
        config = {**config_of("image_encoder", model.image_encoder), "dtype": "float32"}
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config)).requires_grad_(requires_grad=False)
    return unet, vae, encoder


def _base_folder(settings: TrainingSettings) -> Path | None:
    model = settings.model
    if model.svd is not None:
        return find_model(model.svd, download=False)
    if model.base is None:
        return None
    folder = find_model(model.base, stage=settings.stage, download=False)
    return stage_folder(folder, settings.stage) or folder


def _depth(settings: TrainingSettings) -> int:
    """Size of the depth network in bytes; 0 if it runs in loader processes on the CPU or is not downloaded yet."""
    if not computes_depth(settings) or settings.data.workers:
        return 0
    try:
        name, revision = hub_place(settings.model.depth_model or "")
        config = AutoConfig.from_pretrained(name, revision=revision, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return bytes_of(AutoModelForDepthEstimation.from_config(config, trust_remote_code=False))
    except (OSError, ValueError):
        return 0


def _encoding(settings: TrainingSettings, vae: Autoencoder, image_encoder: CLIPVisionModelWithProjection) -> int:
    data, dtype = settings.data, COMPUTE_DTYPES[settings.mixed_precision]
    video = torch.zeros(settings.batch_size, data.frames, 1, data.height, data.width)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        encoders = (lambda: encode_video(vae, video), lambda: clip_tokens(image_encoder, video))
        return max(peak_bytes(encode) for encode in encoders)


def _activations(settings: TrainingSettings, unet: UNetSpatioTemporalConditionModel, *, factor: int) -> int:
    """Peak memory of a training step of the UNet in bytes, without the gradients of the parameters."""
    data, batch, dtype = settings.data, settings.batch_size, COMPUTE_DTYPES[settings.mixed_precision]
    mixed = dtype != torch.float32
    if mixed and not settings.cpu:
        _normalize_as_on_a_gpu(unet)
    unet.forward = torch.autocast("cpu", dtype=dtype, enabled=mixed)(unet.forward)  # as Accelerate does
    for parameter in unet.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_drop_gradient)
    latent = torch.zeros(batch, data.frames, 4, data.height // factor, data.width // factor)
    clips = LatentBatch(
        target=latent,
        modal=latent,
        guide=latent,
        tokens=torch.zeros(batch, data.frames, unet.config.cross_attention_dim),
        noise_aug_strength=torch.zeros(batch),
    )

    def step() -> None:
        loss = training_loss(
            unet,
            clips,
            noise=settings.noise,
            conditioning_dropout=settings.conditioning_dropout,
            generators=[torch.Generator() for _ in range(batch)],
        )
        loss.backward()

    return peak_bytes(step)


def _normalize_as_on_a_gpu(unet: nn.Module) -> None:
    """Run normalization layers in float32, as autocast does on a GPU; on a CPU, autocast does not."""
    layers: list[nn.Module] = [layer for layer in unet.modules() if isinstance(layer, (nn.GroupNorm, nn.LayerNorm))]
    for layer in layers:
        layer.forward = _in_float32(layer.forward)


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def computed(values: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(values.float())

    return computed


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None
