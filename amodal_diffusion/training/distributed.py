"""The processes of a launch, as Accelerate sees them, and what they must agree on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    gather_object,
    is_wandb_available,
)
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from amodal_diffusion.training.settings import Precision, Tracker
from amodal_diffusion.types import InputError

T = TypeVar("T")

# How long processes wait for one that reads, writes or checks a large file alone; NCCL's own 10 minutes can be short.
_PATIENCE = timedelta(minutes=30)


def make_accelerator(
    precision: Precision,
    *,
    cpu: bool = False,
    accumulation: Callable[[int], int] = lambda _: 1,
    tracker: Tracker = "none",
    log_folder: str | None = None,
) -> Accelerator:
    """Join the processes that `accelerate launch` has started, or be the only one.

    Args:
        precision: of the networks' computations; weights stay as they are.
        cpu: stay on the CPU where there is a GPU.
        accumulation: batches before each optimizer step, by the number of processes.
        tracker: where figures go.
        log_folder: for TensorBoard's files.

    Raises:
        InputError: if float16 is asked for on the CPU, FSDP or DeepSpeed, the tracker is not installed, or from
            ``accumulation``.
    """
    # A launch of several processes on the CPU does not tell them so, and each would take itself to be alone.
    cpu = cpu or not torch.accelerator.is_available()
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if precision == "fp16" and (deepspeed or os.environ.get("ACCELERATE_USE_FSDP") == "true"):
        raise InputError(
            "mixed_precision: fp16 needs a gradient scaler in one piece; give bf16, or launch without FSDP "
            "and DeepSpeed"
        )
    if cpu and precision == "fp16":
        raise InputError("mixed_precision: fp16 needs a GPU; give bf16 or no")
    if tracker == "wandb" and not is_wandb_available():
        raise InputError("tracker: wandb needs the package wandb; pip install 'amodal-diffusion[wandb]'")
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no" if deepspeed else precision,  # its own bf16 would round the weights that are trained
        log_with=None if tracker == "none" else tracker,
        project_dir=log_folder,
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )
    accelerator.gradient_accumulation_steps = accumulation(accelerator.num_processes)
    if deepspeed:
        config = accelerator.state.deepspeed_plugin.deepspeed_config
        config["torch_autocast"] = {"enabled": precision != "no", "dtype": "bfloat16"}
        config["gradient_accumulation_steps"] = accelerator.gradient_accumulation_steps
    return accelerator


def tell_deepspeed(accelerator: Accelerator, *, batch_size: int, max_grad_norm: float) -> None:
    """Set the batch size and clipping that DeepSpeed, if it is used, needs before it wraps the network.

    Args:
        accelerator: device and processes of the launch.
        batch_size: clips that a process takes at once.
        max_grad_norm: gradients longer than this are scaled down to it.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        config = accelerator.state.deepspeed_plugin.deepspeed_config
        config |= {"train_micro_batch_size_per_gpu": batch_size, "gradient_clipping": max_grad_norm}


def holds_whole_network(accelerator: Accelerator) -> bool:
    """Whether each process has all of a network that is trained, and not a share of it."""
    return accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def together(work: Callable[[], T]) -> T:
    """Do work that can fail in every process; where it fails in one, it fails in all, and none waits for another.

    Args:
        work: reads or writes files, and does not wait for other processes.

    Returns:
        what ``work`` returned in this process.

    Raises:
        InputError: in every process, the first failure by number of process.
    """
    result, failure = None, ""
    try:
        result = work()
    except (InputError, OSError) as error:
        failure = str(error)
    failures = [text for text in gather_object([failure]) if text]
    if failures:
        raise InputError(failures[0])
    return result  # type: ignore[return-value]  # only a failed work has no result


def main_first(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Do work in the main process alone and give every process its result.

    Args:
        accelerator: device and processes of the launch.
        work: returns what can be sent to another process.

    Raises:
        InputError: in every process, if it failed.
    """
    result = together(lambda: work() if accelerator.is_main_process else None)
    return gather_object([result])[0]


TERMINATED_STATUS = 128 + signal.SIGTERM
"""Exit status, 143, of a run that was asked to end, saved a checkpoint and did."""


class Termination:
    """Within this context SIGTERM ends nothing; it is noted.

    Attributes:
        requested: whether this process got SIGTERM.
    """

    def __init__(self) -> None:
        """Nothing requested yet."""
        self.requested = False
        self._earlier: Any = None

    def __enter__(self) -> Self:
        """Note SIGTERM from now on; outside of the main thread, where Python allows no handlers, nothing changes."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Handle SIGTERM as before."""
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, self._earlier)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to end; all call this together."""
        asked = torch.tensor(float(self.requested), device=accelerator.device)
        return bool(accelerator.reduce(asked, reduction="sum") > 0)

    def _note(self, _: int, __: FrameType | None) -> None:
        self.requested = True


def ignore_termination(_: int) -> None:
    """Leave SIGTERM to the training process, in a process that loads clips for it and ends with it.

    A scheduler may send it to all processes; a loading process that died of it would take the checkpoint with it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Those that require gradients, by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def reshard(network: nn.Module) -> None:
    """Shard an FSDP network again; outside of training its last forward pass leaves some modules gathered."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(value: Tensor) -> Tensor:
    """The full tensor; if it is sharded, all processes call this together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, target: Tensor) -> Tensor:
    """A full tensor, sharded like another; all processes call this together with the same value."""
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)


def whole_network(unet: UNetSpatioTemporalConditionModel) -> UNetSpatioTemporalConditionModel:
    """The network, or a full copy on the CPU if it is sharded; all processes call this together."""
    if not any(isinstance(value, DTensor) for value in unet.parameters()):
        return unet
    weights = {name: whole(value).cpu() for name, value in unet.state_dict().items()}
    with torch.device("meta"):
        copy = UNetSpatioTemporalConditionModel.from_config(unet.config)
    copy.load_state_dict(weights, assign=True)
    return copy


@dataclass(frozen=True)
class Verdict:
    """Of one optimizer step; the same in every process.

    Attributes:
        not_finite: whether a loss or the gradient is NaN or infinite.
        unread: clips that could not be read.
        terminated: whether a process was asked to end.
        out_of_time: whether a process is past the time limit.
    """

    not_finite: bool
    unread: int
    terminated: bool
    out_of_time: bool


def agree(
    accelerator: Accelerator, *, losses: Tensor, norm: Tensor, unread: int, terminated: bool, out_of_time: bool
) -> Verdict:
    """Combine what all processes have found, so that all act alike; all call this together.

    Args:
        accelerator: device and processes of the launch.
        losses: of this process's batches, float ``[n]``.
        norm: of the gradient, which all processes share, float scalar. Under float16 it may be infinite: the gradient
            scaler then leaves the step out by itself and scales less.
        unread: clips that this process could not read.
        terminated: whether this process was asked to end.
        out_of_time: whether this process is past the time limit.
    """
    sound = torch.isfinite(losses).all()
    if accelerator.scaler is None:
        sound = sound & torch.isfinite(norm)
    found = torch.tensor([0.0, unread, terminated, out_of_time], device=losses.device)
    found[0] = ~sound
    unsound, total, asked, late = accelerator.reduce(found, reduction="sum").tolist()
    return Verdict(not_finite=unsound > 0, unread=int(total), terminated=asked > 0, out_of_time=late > 0)
