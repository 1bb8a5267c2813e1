"""The processes of a launch, as Accelerate sees them, and what they must agree on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object

from amodal_diffusion.training.settings import Precision
from amodal_diffusion.types import InputError

T = TypeVar("T")

# How long processes wait for one that reads, writes or checks a large file alone; NCCL's own 10 minutes can be short.
_PATIENCE = timedelta(minutes=30)


def make_accelerator(
    precision: Precision, *, cpu: bool = False, accumulation: int = 1, log_folder: str | None = None
) -> Accelerator:
    """Join the processes that `accelerate launch` has started, or be the only one.

    Args:
        precision: of the networks' computations; weights stay as they are.
        cpu: stay on the CPU where there is a GPU.
        accumulation: batches before each optimizer step.
        log_folder: where TensorBoard's files go; None is without.

    Raises:
        InputError: if float16 is asked for on the CPU.
    """
    # A launch of several processes on the CPU does not tell them so, and each would take itself to be alone.
    cpu = cpu or not torch.accelerator.is_available()
    if cpu and precision == "fp16":
        raise InputError("mixed_precision: fp16 needs a GPU; give bf16 or no")
    return Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        gradient_accumulation_steps=accumulation,
        log_with=None if log_folder is None else "tensorboard",
        project_dir=log_folder,
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )


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
