"""The processes of a launch, as Accelerate sees them, and what they must agree on."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    gather_object,
    is_wandb_available,
)

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
    """Give DeepSpeed, if it is what runs the processes, what it wants to know of a run before it takes the network.

    Args:
        accelerator: of the run.
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
        accelerator: of the run.
        work: returns what can be sent to another process.

    Raises:
        InputError: in every process, if it failed.
    """
    result = together(lambda: work() if accelerator.is_main_process else None)
    return gather_object([result])[0]
