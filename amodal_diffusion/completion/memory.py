"""Memory of `complete`: the plan that ``--dry-run`` prints, and the error when a device has too little."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.completion.inputs import open_inputs
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.config import Offload
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.pipelines.methods import DIFFUSION

if TYPE_CHECKING:
    import torch
    from torch import nn

    from amodal_diffusion.models.downloads import Wanted
    from amodal_diffusion.models.stages import EmptyStage
    from amodal_diffusion.pipelines.sampling_memory import Work

logger = logging.getLogger(__name__)

GIB = 2**30
GPUS = (8, 12, 16, 24)
"""Sizes in GiB of the GPUs for which the plan names options."""
RESERVE = GIB
"""Bytes of a GPU that the plan leaves to the driver, the libraries' workspaces and fragmentation."""

_ROWS = (1, 2)
_OFFLOADS: tuple[Offload, ...] = ("none", "model", "sequential")
# What an option costs in time or quality, to name the cheapest options that fit.
_OFFLOAD_COST = {"none": 0, "model": 4, "sequential": 12}
_NO_GUIDANCE_COST, _PRECISION_COST = 6, 2


@dataclass(frozen=True)
class _Plan:
    """What is planned.

    Attributes:
        stages: the networks of each stage, without weights.
        works: what each stage computes at once.
        depth: bytes of the depth network; None if it is not known.
    """

    stages: dict[Stage, EmptyStage]
    works: dict[Stage, Work]
    depth: int | None

    @property
    def on_cpu(self) -> bool:
        """Whether the networks run on the CPU."""
        return any(work.on_cpu for work in self.works.values())

    @property
    def dtype(self) -> torch.dtype:
        """Of the UNet and the image encoder."""
        return next(iter(self.stages.values())).unet.dtype

    def peak(self, offload: Offload) -> int:
        """Peak memory in bytes."""
        from amodal_diffusion.pipelines.sampling_memory import peak_memory

        return peak_memory(list(self.stages.values()), list(self.works.values()), offload, others=self.depth or 0)


def memory_report(request: CompletionRequest) -> str:
    """The memory plan of a command, from the configurations of its networks; nothing is downloaded or loaded.

    Args:
        request: the options of `complete`; its inputs are opened and checked.

    Raises:
        InputError: if an input or an option is wrong, or the command uses no network.
    """
    _check_device(request)
    inputs = open_inputs(request)
    names = request.stage_names
    if not names.stages:
        raise InputError("--dry-run: --from-scores uses no network; leave one of them out")
    quieten_libraries(quiet=True)
    folders = {stage: _if_here(place) for stage, place in names.places().items()}
    method = names.known_method
    if method != DIFFUSION:
        folders.pop("amodal_segmentation", None)
    if not folders:
        raise InputError(f"--dry-run: plans diffusion, and --stages masks with {method} uses none; leave --dry-run out")
    if len(folders) < len(names.stages):
        logger.warning("method %s: its memory is not counted; it grows with the length of a shot", method)
    objects = min(request.sampling.object_batch, len(inputs.tracks) or request.sampling.object_batch)
    plan = _plan(request, folders, objects, _dtype(request))
    return "\n".join([*_heading(request, plan, objects), *_weights(plan), *_steps(plan), *_sizes(plan),
                      *_fitting(request, folders, plan, objects)])  # fmt: skip


def _plan(request: CompletionRequest, folders: dict[Stage, Path | None], objects: int, dtype: torch.dtype) -> _Plan:
    from amodal_diffusion.models.stages import empty_stages
    from amodal_diffusion.pipelines.completion_config import stage_sampling
    from amodal_diffusion.pipelines.sampling_memory import Work

    on_cpu = request.model.device == "cpu"
    stages = empty_stages(folders, dtype=dtype, vae=_light_vae(request))
    works = {}
    for stage, networks in stages.items():
        changes = request.sampling.changes()
        sampling = stage_sampling(networks.settings, networks.vae, changes.pop("preset"), changes)
        if stage == "content_completion":
            sampling = sampling.changed({"samples": 1})  # all samples of stage 1 share one painting
        works[stage] = Work.of(sampling, objects=objects, on_cpu=on_cpu)
    return _Plan(stages, works, _depth_bytes(request, stages))


def _light_vae(request: CompletionRequest) -> Path | None:
    """Folder of the light autoencoder that is counted; None without one, and with a notice if it is not here."""
    from amodal_diffusion.models.light_vae import locate_vae

    if request.model.vae is None:
        return None
    folder = _if_here(locate_vae(request.model.vae))
    if folder is None:
        logger.warning("vae %s: not here; the model's own autoencoder is counted, which takes more", request.model.vae)
    return folder


def _if_here(place: Path | Wanted) -> Path | None:
    """Folder of a model that is bundled, the user's own or downloaded before; None if it is not here."""
    from amodal_diffusion.models.downloads import fetch, folder_of

    if isinstance(place, Path):
        return place
    try:
        return folder_of(place, fetch([place], download=False))
    except InputError:
        return None


def _check_device(request: CompletionRequest) -> None:
    """Check options of the device as the command itself does; ``auto`` on a machine without a GPU plans for one."""
    import torch

    from amodal_diffusion.models.acceleration import Acceleration
    from amodal_diffusion.models.offloading import check_offload

    model = request.model
    device = torch.device("cuda" if model.device == "auto" else model.device)
    check_offload(device, model.offload, option="--offload")
    Acceleration(model.compile, model.cuda_graphs, model.channels_last).check(device, model.offload)


def _dtype(request: CompletionRequest) -> torch.dtype:
    """Dtype of the networks; ``auto`` on a machine without a GPU is that of a GPU with bfloat16."""
    import torch

    from amodal_diffusion.models.weights import choose_dtype

    name, device = request.model.dtype, request.model.device
    if name == "auto" and not torch.cuda.is_available() and device.partition(":")[0] not in ("cpu", "mps"):
        return torch.bfloat16
    return choose_dtype(name, torch.device("cuda" if device == "auto" else device))


def _depth_bytes(request: CompletionRequest, stages: dict[Stage, EmptyStage]) -> int | None:
    """Bytes of the depth network in float32; 0 if depth is not estimated, None if the network is not known."""
    from amodal_diffusion.models.hub import DEPTH_MODELS

    first = stages.get("amodal_segmentation")
    name = request.depth.depth_model or (None if first is None else first.settings.depth_model)
    if request.depth.depth != "auto" or name is None or first is None:
        return 0
    sizes = {key: model.parameters * 4 for key, model in DEPTH_MODELS.items()}
    sizes |= {model.repository: sizes[key] for key, model in DEPTH_MODELS.items()}
    if name in sizes or not Path(name).is_dir():
        return sizes.get(name)
    return sum(path.stat().st_size for path in Path(name).glob("model.safetensors"))


def _heading(request: CompletionRequest, plan: _Plan, objects: int) -> Iterator[str]:
    model = request.model
    names = model.model if model.content_model is None else f"{model.model} and {model.content_model}"
    device, dtype = "CPU" if plan.on_cpu else "GPU", str(plan.dtype).removeprefix("torch.")
    yield f"memory of {names} on a {device} in {dtype}, calculated from the configurations of its networks"
    for stage, work in plan.works.items():
        yield (
            f"  {stage}: windows of {work.frames} frames of {work.height}x{work.width}, objects at once: {objects}, "
            f"rows of the UNet: {work.rows}, frames decoded together: {work.decode_chunk_size}"
        )


def _weights(plan: _Plan) -> Iterator[str]:
    from amodal_diffusion.models.memory import bytes_of, format_bytes

    owners: dict[nn.Module, list[str]] = {}
    labels: dict[nn.Module, str] = {}
    for stage, networks in plan.stages.items():
        for label, network in zip(("UNet", "VAE", "image encoder"), networks.networks, strict=True):
            owners.setdefault(network, []).append(stage)
            labels[network] = label
    yield "weights"
    for network, label in labels.items():
        whose = "both stages" if len(owners[network]) > 1 else owners[network][0]
        millions = sum(value.numel() for value in network.parameters()) / 1e6
        yield f"  {f'{label} of {whose}':<34}{millions:8.1f} M {format_bytes(bytes_of(network))}"
    if plan.depth is None:
        yield "  the depth network is not here, and not counted"
    elif plan.depth:
        yield f"  {'depth network':<45}{format_bytes(plan.depth)}"


def _steps(plan: _Plan) -> Iterator[str]:
    """Memory beside the weights at the peak of each step, and the peak of all with each kind of offload."""
    from amodal_diffusion.models.memory import format_bytes
    from amodal_diffusion.pipelines.sampling_memory import stage_memory

    found = {stage: stage_memory(networks, plan.works[stage]) for stage, networks in plan.stages.items()}
    yield f"{'beside the weights':<24}" + "".join(f"{stage:>22}" for stage in found)
    for label, step in {
        "encoding, VAE": "encode",
        "tokens, image encoder": "tokens",
        "denoising, UNet": "denoise",
        "decoding, VAE": "decode",
    }.items():
        yield f"  {label:<22}" + "".join(f"{format_bytes(getattr(memory, step)):>22}" for memory in found.values())
    yield "peak of all"
    for offload in ("none",) if plan.on_cpu else _OFFLOADS:
        yield f"  {f'--offload {offload}':<22}{format_bytes(plan.peak(offload)):>22}"


def _sizes(plan: _Plan) -> Iterator[str]:
    """Memory of the UNet by rows and of decoding, at the size at hand and at twice the height and width."""
    from amodal_diffusion.models.memory import format_bytes
    from amodal_diffusion.pipelines.sampling_memory import decode_bytes, denoise_bytes

    stage, networks = next(iter(plan.stages.items()))
    work = plan.works[stage]
    titles = [*(f"UNet, {rows} row{'s' if rows > 1 else ''}" for rows in _ROWS), "decoding a frame"]
    yield f"{'by size':<12}" + "".join(f"{title:>18}" for title in titles)
    for scale in (1, 2):
        sized = replace(work, height=scale * work.height, width=scale * work.width)
        frame = decode_bytes(networks, replace(sized, frames=1, decode_chunk_size=1))
        sizes = [*(denoise_bytes(networks, sized, rows=rows) for rows in _ROWS), frame]
        yield f"  {f'{sized.height}x{sized.width}':<10}" + "".join(f"{format_bytes(size):>18}" for size in sizes)


def _fitting(request: CompletionRequest, folders: dict[Stage, Path | None], plan: _Plan, objects: int) -> Iterator[str]:
    """For each size of GPU, the options with which the command fits; of several choices, the one that costs least."""
    if plan.on_cpu:
        return
    yield f"what fits, with {RESERVE / GIB:g} GiB left to the driver, library workspaces and fragmentation"
    ways = sorted(_ways(request, folders, plan, objects), key=lambda way: way.cost)
    for size in GPUS:
        fitting = next((way for way in ways if way.plan.peak(way.offload) + RESERVE <= size * GIB), None)
        if fitting is None:
            yield f"  {size:>2} GB  nothing at this size; give a smaller --height and --width"
        else:
            peak = fitting.plan.peak(fitting.offload) / GIB
            yield f"  {size:>2} GB  {peak:5.1f} GiB  {' '.join(fitting.options) or 'as it is'}"


@dataclass(frozen=True)
class _Way:
    """A way to take less memory.

    Attributes:
        cost: in time or quality; lower is better.
        plan: what is computed.
        offload: where weights wait.
        options: what to add to the command.
    """

    cost: int
    plan: _Plan
    offload: Offload
    options: tuple[str, ...]


def _ways(request: CompletionRequest, folders: dict[Stage, Path | None], plan: _Plan, objects: int) -> Iterator[_Way]:
    """All combinations of options that take less memory, the command as it is among them."""
    import torch

    longest = max(work.decode_chunk_size for work in plan.works.values())
    chunks = [longest, *(chunk for chunk in (4, 2, 1) if chunk < longest)]
    plans = {"": plan}
    if plan.dtype != torch.bfloat16:
        plans["--dtype bfloat16"] = _plan(request, folders, objects, torch.bfloat16)
    offloads = _OFFLOADS[_OFFLOADS.index(request.model.offload) :]
    guidance = [True, False] if any(work.guided for work in plan.works.values()) else [True]
    for dtype, offload, guided, fewer, chunk in product(plans, offloads, guidance, {objects, 1}, chunks):
        works = {
            stage: replace(
                work,
                clips=work.clips // objects * fewer,
                guided=work.guided and guided,
                decode_chunk_size=min(work.decode_chunk_size, chunk),
            )
            for stage, work in plan.works.items()
        }
        options = {
            dtype: bool(dtype),
            f"--object-batch {fewer}": fewer < objects,
            f"--decode-chunk-size {chunk}": chunk < longest,
            f"--offload {offload}": offload != request.model.offload,
            "--guidance 1": not guided,
        }
        cost = _PRECISION_COST * bool(dtype) + _OFFLOAD_COST[offload] + _NO_GUIDANCE_COST * (not guided)
        cost += (fewer < objects) + chunks.index(chunk)
        chosen = tuple(name for name, given in options.items() if given)
        yield _Way(cost, replace(plans[dtype], works=works), offload, chosen)


@contextmanager
def out_of_memory_explained(request: CompletionRequest) -> Iterator[None]:
    """Turn torch's error when a device has too little memory into one line.

    Args:
        request: the options, of which the line names those that would help.

    Raises:
        InputError: in place of ``torch.OutOfMemoryError``.
    """
    try:
        yield
    except RuntimeError as error:
        from amodal_diffusion.models.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"out of memory on the device; {', '.join(_remedies(request))} need less, and --dry-run prints how much; "
            "what is finished is kept, and the same command goes on with it, also with another --offload or "
            "--object-batch; with other options give --overwrite, which begins anew"
        ) from error


def _remedies(request: CompletionRequest) -> Iterator[str]:
    """Options that take less memory than those of a request, cheapest first."""
    model, sampling = request.model, request.sampling
    if sampling.object_batch > 1:
        yield "--object-batch 1"
    if model.cuda_graphs:
        yield "no --cuda-graphs"
    if model.offload != "sequential" and not model.cuda_graphs:
        yield f"--offload {'model' if model.offload == 'none' else 'sequential'}"
    if sampling.decode_chunk_size != 1:
        yield f"--decode-chunk-size {max(1, (sampling.decode_chunk_size or 8) // 4)}"
    if model.dtype == "float32":
        yield "--dtype bfloat16"
    yield "a smaller --height and --width"
