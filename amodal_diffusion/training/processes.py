"""The processes of a launch, as Accelerate sees them."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from amodal_diffusion.training.settings import Precision
from amodal_diffusion.types import InputError


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
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
