"""The optimizer of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from amodal_diffusion.training.settings import OptimizerSettings
from amodal_diffusion.types import InputError


def make_optimizer(parameters: Sequence[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW, with its two moments in float32 or in 8 bits.

    Args:
        parameters: what is trained, and nothing else.
        settings: which of the two, and its numbers.

    Raises:
        InputError: if 8 bits are asked for and bitsandbytes is not installed.
    """
    if settings.name == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            eps=settings.epsilon,
            fused=True,
        )
    try:
        from bitsandbytes.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise InputError(
            "optimizer.name: adamw8bit needs the package bitsandbytes; pip install 'amodal-diffusion[bitsandbytes]'"
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        eps=settings.epsilon,
    )
    return optimizer
