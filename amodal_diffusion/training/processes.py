"""The processes of a launch, as Accelerate sees them."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from amodal_diffusion.training.settings import Precision


def make_accelerator(
    precision: Precision, *, cpu: bool = False, accumulation: int = 1, log_folder: str | None = None
) -> Accelerator:
    """Join the processes that `accelerate launch` has started, or be the only one.

    Args:
        precision: of the networks' computations; weights stay as they are.
        cpu: stay on the CPU where there is a GPU.
        accumulation: batches before each optimizer step.
        log_folder: where TensorBoard's files go; None is without.
    """
    return Accelerator(
        # A launch of several processes on the CPU does not tell them so, and each would take itself to be alone.
        cpu=cpu or not torch.accelerator.is_available(),
        mixed_precision=precision,
        gradient_accumulation_steps=accumulation,
        log_with=None if log_folder is None else "tensorboard",
        project_dir=log_folder,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
