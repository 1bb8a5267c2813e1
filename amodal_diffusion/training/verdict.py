"""What all processes must know of a step before it changes the weights, found out with one message."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """Of one optimizer step; the same in every process.

    Attributes:
        not_finite: whether a loss, or the gradient, is infinite or no number.
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
    """Tell the other processes what this one has found; all call this together.

    Args:
        accelerator: of the run.
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
