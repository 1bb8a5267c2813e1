"""Distributed training with Accelerate: launch, sharded networks, SIGTERM, and decisions common to all processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DDPCommunicationHookType,
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

from amodal_diffusion.basics import InputError
from amodal_diffusion.training.run_settings import Precision, Tracker
from amodal_diffusion.training.settings import CommHook

T = TypeVar("T")

_COMM_HOOKS = {"none": DDPCommunicationHookType.NO, "bf16": DDPCommunicationHookType.BF16}
# Timeout for processes that wait while one reads, writes or checks a large file; NCCL's 10 minutes can be too short.
_PATIENCE = timedelta(minutes=30)


def make_accelerator(
    precision: Precision,
    *,
    cpu: bool = False,
    accumulation: Callable[[int], int] = lambda _: 1,
    tracker: Tracker = "none",
    log_folder: str | None = None,
    comm_hook: CommHook = "none",
) -> Accelerator:
    """Create the accelerator and join the processes that `accelerate launch` started, if any.

    Args:
        precision: precision of autocast; the dtype of the weights does not change.
        cpu: use the CPU even if there is a GPU.
        accumulation: maps the number of processes to the number of gradient accumulation steps.
        tracker: tracker of the metrics.
        log_folder: folder for TensorBoard's files.
        comm_hook: precision in which DistributedDataParallel sums gradients.

    Raises:
        InputError: if fp16 or a hook is used on the CPU or with FSDP or DeepSpeed, the tracker is not installed, or
            ``accumulation`` raises it.
    """
    # Without this, the processes of a launch on the CPU would not know of each other.
    cpu = cpu or not torch.accelerator.is_available()
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    sharded = deepspeed or os.environ.get("ACCELERATE_USE_FSDP") == "true"
    if comm_hook != "none" and sharded:
        raise InputError(f"ddp_comm_hook: expected none with FSDP and DeepSpeed, got {comm_hook}; leave it out")
    if precision == "fp16" and sharded:
        raise InputError(
            "mixed_precision: fp16 needs a gradient scaler in one piece; give bf16, or launch without FSDP "
            "and DeepSpeed"
        )
    if cpu and comm_hook != "none":
        raise InputError(f"ddp_comm_hook: {comm_hook} needs GPUs (NCCL sums in bfloat16); give none")
    if cpu and precision == "fp16":
        raise InputError("mixed_precision: fp16 needs a GPU; give bf16 or no")
    if tracker == "wandb" and not is_wandb_available():
        raise InputError("tracker: wandb needs the package wandb; pip install 'amodal-diffusion[wandb]'")
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no" if deepspeed else precision,  # DeepSpeed's bf16 would round the trained weights
        log_with=None if tracker == "none" else tracker,
        project_dir=log_folder,
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, comm_hook=_COMM_HOOKS[comm_hook]),
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
    """Set DeepSpeed's batch size and gradient clipping, if it is used; call this before it wraps the network.

    Args:
        accelerator: accelerator of this process.
        batch_size: number of clips per batch of a process.
        max_grad_norm: gradients are clipped to this norm.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        config = accelerator.state.deepspeed_plugin.deepspeed_config
        config |= {"train_micro_batch_size_per_gpu": batch_size, "gradient_clipping": max_grad_norm}


def holds_whole_network(accelerator: Accelerator) -> bool:
    """Whether each process holds the complete trained network, rather than a shard of it."""
    return accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def together(work: Callable[[], T]) -> T:
    """Run a function in every process; if it fails in one process, all processes raise an error instead of hanging.

    Args:
        work: function that may fail, such as one that reads files, and that does not wait for other processes.

    Returns:
        the result of ``work`` in this process.

    Raises:
        InputError: in every process, if any process failed; the message is that of the first one by rank.
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
    """Run a function in the main process only and broadcast its result to every process.

    Args:
        accelerator: accelerator of this process.
        work: function whose result can be pickled.

    Raises:
        InputError: in every process, if the function failed.
    """
    result = together(lambda: work() if accelerator.is_main_process else None)
    return gather_object([result])[0]


TERMINATED_STATUS = 128 + signal.SIGTERM
"""Exit status (143) of a run that ended with a checkpoint after SIGTERM."""

_ONE_REQUEST = 5.0  # seconds


class Termination:
    """Context in which SIGTERM and Ctrl-C do not end the process but are recorded; a later Ctrl-C ends it.

    Launchers pass Ctrl-C on, so that it comes twice; what comes within some seconds counts once.

    Attributes:
        requested: whether this process received one of them.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self.requested = False
        self._since = 0.0
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the signal handlers; outside the main thread, where Python allows no handlers, do nothing."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the earlier signal handlers."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process received a request; all processes must call this together."""
        asked = torch.tensor(float(self.requested), device=accelerator.device)
        return bool(accelerator.reduce(asked, reduction="sum") > 0)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.requested and time.monotonic() - self._since > _ONE_REQUEST:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._since = True, time.monotonic()


def ignore_termination(_: int) -> None:
    """Ignore SIGTERM and Ctrl-C in a data loader process, which ends with the training process.

    A job scheduler or a terminal may send them to all processes. If a data loader process died, training could not save
    its checkpoint.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require gradients, by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def reshard(network: nn.Module) -> None:
    """Reshard an FSDP network; outside training, the last forward pass leaves some modules unsharded."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(value: Tensor) -> Tensor:
    """The full tensor; if it is sharded, all processes must call this together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, target: Tensor) -> Tensor:
    """Shard a full tensor like another one; all processes must call this together with the same value."""
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)


def whole_network(unet: UNetSpatioTemporalConditionModel) -> UNetSpatioTemporalConditionModel:
    """The network, or a full copy on the CPU if it is sharded; all processes must call this together."""
    if not any(isinstance(value, DTensor) for value in unet.parameters()):
        return unet
    weights = {name: whole(value).cpu() for name, value in unet.state_dict().items()}
    with torch.device("meta"):
        copy = UNetSpatioTemporalConditionModel.from_config(unet.config)
    copy.load_state_dict(weights, assign=True)
    return copy


@dataclass(frozen=True)
class Verdict:
    """Outcome of an optimizer step, the same in every process.

    Attributes:
        not_finite: whether a loss or the gradient is NaN or infinite in any process.
        unread: number of clips that could not be read, over all processes.
        terminated: whether any process received SIGTERM.
        out_of_time: whether any process is past the time limit.
    """

    not_finite: bool
    unread: int
    terminated: bool
    out_of_time: bool


def agree(
    accelerator: Accelerator, *, losses: Tensor, norm: Tensor, unread: int, terminated: bool, out_of_time: bool
) -> Verdict:
    """Combine the outcomes of all processes, so that all act alike; all processes must call this together.

    Args:
        accelerator: accelerator of this process.
        losses: losses of this process's batches, float ``[n]``.
        norm: norm of the gradient, float scalar, the same in all processes. With fp16 it may be infinite: the gradient
            scaler then skips the step itself and lowers its scale.
        unread: number of clips that this process could not read.
        terminated: whether this process received SIGTERM.
        out_of_time: whether this process is past the time limit.
    """
    sound = torch.isfinite(losses).all()
    if accelerator.scaler is None:
        sound = sound & torch.isfinite(norm)
    found = torch.tensor([0.0, unread, terminated, out_of_time], device=losses.device)
    found[0] = ~sound
    unsound, total, asked, late = accelerator.reduce(found, reduction="sum").tolist()
    return Verdict(not_finite=unsound > 0, unread=int(total), terminated=asked > 0, out_of_time=late > 0)
