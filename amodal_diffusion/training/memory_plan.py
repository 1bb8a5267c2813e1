"""Memory that a training run will need on a device, counted on a step without values, and what to change to need less.

The step is the real one: the same networks from their settings alone, the same loss and the same settings,
on torch's fake tensors, which have shapes and no values. Nothing is loaded and nothing of size is allocated.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoConfig, AutoModelForDepthEstimation, CLIPVisionConfig, CLIPVisionModelWithProjection

from amodal_diffusion.models.conditioning import clip_tokens
from amodal_diffusion.models.hub import autoencoder_class, find_model, part_folder, stage_folder
from amodal_diffusion.models.hub_ids import hub_place
from amodal_diffusion.models.latents import Autoencoder, encode_video, spatial_factor
from amodal_diffusion.models.unet import AMODAL_CHANNELS
from amodal_diffusion.models.weights import read_json
from amodal_diffusion.training.latent_cache import computes_depth
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.log import describe_step
from amodal_diffusion.training.loss import training_loss
from amodal_diffusion.training.networks import COMPUTE_DTYPES, build_image_encoder, build_unet, prepare_unet
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import InputError

_FLOAT32 = 4
_MOMENT_BYTES = {"adamw": 2 * 4, "adamw8bit": 2}  # of both moments of a weight
_GIB = 2**30


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a process needs at most, part by part.

    Attributes:
        parameters: number of weights of the UNet.
        trained: how many of these are trained.
        weights: of the UNet.
        gradients: of what is trained.
        optimizer: moments of what is trained.
        average: moving average of what is trained.
        frozen: weights of VAE and image encoder; 0 if the clips were encoded before.
        depth: weights of the depth network, where it works on the run's device and its files are here.
        encoding: beside these, while VAE and image encoder encode a batch; its end comes before the activations.
        activations: beside these, in the UNet's forward and backward pass over a batch, temporary values included.
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
        """All that is there at the same time, at its largest."""
        held = self.weights + self.gradients + self.optimizer + self.average + self.frozen + self.depth
        return held + max(self.encoding, self.activations)


def plan_memory(settings: TrainingSettings) -> MemoryPlan:
    """Count the memory of one process that holds the whole network.

    Args:
        settings: resolved training settings.

    Raises:
        InputError: if the shape of a network cannot be read, or a package that the settings need is missing.
    """
    # Attention kernels of both names keep the same; xformers' own has no form without values.
    attention = "sdpa" if settings.model.attention == "xformers" else settings.model.attention
    settings = replace(settings, model=replace(settings.model, attention=attention))
    with torch.device("meta"):
        unet, vae, image_encoder = _networks(settings)
        trained = sum(parameter.numel() for parameter in prepare_unet(unet.train(), settings))
    encodes = not settings.data.encoded
    with FakeTensorMode(allow_non_fake_inputs=True):
        for network in (unet, vae, image_encoder):
            network.to_empty(device="cpu")  # in name alone: autocast acts on devices that exist
        return MemoryPlan(
            parameters=sum(parameter.numel() for parameter in unet.parameters()),
            trained=trained,
            weights=_bytes_of(unet),
            gradients=trained * _FLOAT32,
            optimizer=trained * _MOMENT_BYTES[settings.optimizer.name],
            average=trained * _FLOAT32 if settings.optimizer.ema_decay else 0,
            frozen=_bytes_of(vae) + _bytes_of(image_encoder) if encodes else 0,
            depth=_depth(settings),
            encoding=_encoding(settings, vae, image_encoder) if encodes else 0,
            activations=_activations(settings, unet, factor=spatial_factor(vae)),
        )


def report(settings: TrainingSettings, *, processes: int) -> str:
    """The memory plan as lines of YAML comments.

    Args:
        settings: resolved training settings.
        processes: of the launch.

    Raises:
        InputError: if ``global_batch_size`` is not possible with so many processes.
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
    yield f"memory of a process on a {'CPU' if settings.cpu else 'GPU'}, counted on a step without values:"
    for name, amount in {
        f"UNet, {millions}": plan.weights,
        "gradients": plan.gradients,
        f"optimizer {settings.optimizer.name}": plan.optimizer,
        "moving average": plan.average,
        "VAE and image encoder": plan.frozen,
        "depth network": plan.depth,
        f"activations of {size}": plan.activations,
        "or, before these, encoding the clips": plan.encoding,
        "total": plan.total,
    }.items():
        yield f"  {name:<56}{_amount(amount)}"
    yield "  plus 1 to 2 GiB for the driver, library workspaces and fragmentation"
    yield "if that is too much, in this order:"
    for change, saved in _changes(settings, plan):
        yield f"  {change:<56}{_amount(-saved)}"
    yield "  several GPUs that share the network: configs/accelerate/fsdp.yaml"


def _changes(settings: TrainingSettings, plan: MemoryPlan) -> Iterator[tuple[str, int]]:
    """What makes a run smaller and what each change saves on its own; what costs nothing comes first."""
    model, optimizer = settings.model, settings.optimizer

    def saved_by(**changes: Any) -> int:  # noqa: ANN401 - any settings
        return plan.total - plan_memory(replace(settings, **changes)).total

    if settings.data.cache is None and settings.data.annotations is None:
        without = replace(plan, frozen=0, encoding=0)
        yield "data.cache: DIR, filled by train/precompute.py", plan.total - without.total
    if plan.depth:
        yield "data.workers: 2, which estimate depth on the CPU", plan.depth
    if settings.batch_size > 1:
        yield "batch_size: 1, and global_batch_size for what it was", saved_by(batch_size=1)
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
        # Neither gradients nor moments of the blocks, and their weights narrow; the adapters themselves are small.
        narrow = COMPUTE_DTYPES[settings.mixed_precision].itemsize
        weights = plan.trained * (_FLOAT32 - narrow)
        yield "model.trainable: lora, about", weights + plan.gradients + plan.optimizer + plan.average


def _networks(
    settings: TrainingSettings,
) -> tuple[UNetSpatioTemporalConditionModel, Autoencoder, CLIPVisionModelWithProjection]:
    """The networks, built from their configurations without weights."""
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
    """Bytes of the depth network; loader processes have it in a CPU's memory, and a hub id may not be here yet."""
    if not computes_depth(settings) or settings.data.workers:
        return 0
    try:
        name, revision = hub_place(settings.model.depth_model or "")
        config = AutoConfig.from_pretrained(name, revision=revision, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return _bytes_of(AutoModelForDepthEstimation.from_config(config, trust_remote_code=False))
    except (OSError, ValueError):
        return 0


def _encoding(settings: TrainingSettings, vae: Autoencoder, image_encoder: CLIPVisionModelWithProjection) -> int:
    data, dtype = settings.data, COMPUTE_DTYPES[settings.mixed_precision]
    video = torch.zeros(settings.batch_size, data.frames, 1, data.height, data.width)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        encoders = (lambda: encode_video(vae, video), lambda: clip_tokens(image_encoder, video))
        return max(_most_alive(encode) for encode in encoders)


def _activations(settings: TrainingSettings, unet: UNetSpatioTemporalConditionModel, *, factor: int) -> int:
    """Most bytes alive at once in a step of the UNet, gradients of the parameters aside."""
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

    return _most_alive(step)


def _normalize_as_on_a_gpu(unet: nn.Module) -> None:
    """Let normalizations compute in float32, as autocast does on a GPU and not on a CPU, where this may be counted."""
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


def _most_alive(work: Callable[[], object]) -> int:
    with _AliveBytes() as alive:
        work()
    return alive.most


class _AliveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, from when they are made until they are let go.

    Attributes:
        most: most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._now = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - any operation's result
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._seen:
            self._seen.add(key)
            self._now += storage.nbytes()
            self.most = max(self.most, self._now)
            weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size


def _bytes_of(network: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())


def _amount(size: int) -> str:
    return f"{size / _GIB:8.2f} GiB" if abs(size) >= _GIB / 100 else f"{size / 2**20:8.2f} MiB"
