"""Settings of any training run, and of its learning rate: steps, batches, checkpoints, precision, log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amodal_diffusion.basics import InputError

Precision = Literal["no", "bf16", "fp16"]
Tracker = Literal["tensorboard", "wandb", "none"]
OnBadSample = Literal["stop", "skip"]


@dataclass(frozen=True)
class RunSettings:
    """What every training run has.

    Attributes:
        output: folder for checkpoints, log and exported model.
        steps: total number of optimizer steps.
        batch_size: number of clips per batch of a process.
        gradient_accumulation_steps: number of batches per optimizer step of a process.
        mixed_precision: ``no``, ``bf16`` or ``fp16``; trained weights and optimizer stay in float32.
        cpu: train on the CPU even if there is a GPU.
        seed: random seed of new weights, the order of the clips and all random choices.
        resume: ``auto`` resumes from the newest checkpoint in ``output``, if any; ``none`` starts anew and refuses a
            folder with checkpoints; any other value is the folder of the checkpoint to resume from.
        checkpoint_every: number of steps between checkpoints.
        keep_checkpoints: number of checkpoints to keep.
        max_minutes: stop after this time, with a checkpoint and an export; 0 for no limit.
        on_bad_sample: reaction to a clip that cannot be read: ``stop`` ends the run with an error that names it;
            ``skip`` counts it and uses the next clip instead.
        max_bad_steps: stop after this number of consecutive steps with a loss or gradient that is not finite; each is
            skipped and logged.
        log_every: number of steps between lines of the log.
        tracker: tracker in addition to `log.jsonl`: ``tensorboard``, ``wandb`` (needs the ``wandb`` extra) or ``none``.
    """

    output: Path = Path("runs/training")
    steps: int = 10_000
    batch_size: int = 1
    gradient_accumulation_steps: int = 1
    mixed_precision: Precision = "no"
    cpu: bool = False
    seed: int = 0
    resume: str = "auto"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    max_minutes: float = 0.0
    on_bad_sample: OnBadSample = "stop"
    max_bad_steps: int = 10
    log_every: int = 10
    tracker: Tracker = "tensorboard"

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
            InputError: if one is below 1; the message names the first.
        """
        at_least_one = (
            "steps", "batch_size", "gradient_accumulation_steps", "checkpoint_every", "keep_checkpoints",
            "max_bad_steps", "log_every",
        )  # fmt: skip
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class RateSettings:
    """Optimizer and learning rate.

    Attributes:
        optimizer: ``adamw`` with decoupled weight decay of weights, not of biases and norms; ``adam`` without.
        learning_rate: peak learning rate.
        betas: decay rates of the two moments.
        epsilon: added to the root of the second moment.
        weight_decay: of AdamW.
        warmup_steps: number of steps over which the learning rate rises linearly from 0.
        schedule: learning rate after the warmup: ``constant``; ``linear`` or ``cosine`` decay to 0 at the last step;
            ``halving`` every ``halve_every`` steps.
        halve_every: number of steps, for ``halving``.
        max_grad_norm: gradients are clipped to this norm.
    """

    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine", "halving"] = "linear"
    halve_every: int = 30_000
    max_grad_norm: float = 1.0

    def at(self, step: int, *, steps: int) -> float:
        """Learning rate of a step, a pure function of its number, so that checkpoints need no scheduler state.

        Args:
            step: number of earlier optimizer steps, from 0.
            steps: total number of optimizer steps.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        factors = {
            "constant": 1.0,
            "linear": 1.0 - share,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * share)),
            "halving": 0.5 ** (step // self.halve_every),
        }
        return self.learning_rate * factors[self.schedule]
