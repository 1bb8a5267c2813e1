"""The training loop of the autoencoders: cosine schedule, checkpoints, exact resume."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from amodal_diffusion.basics import InputError

logger = logging.getLogger(__name__)
Draw = Callable[[int, np.random.Generator], tuple[Tensor, ...]]


class LoopSettings(Protocol):
    """What the loop reads of a run's settings.

    Attributes:
        out: folder of the run.
        steps: optimizer steps.
        learning_rate: peak, reached after 2 % of the steps; falls to zero as a cosine.
        save_every: steps between checkpoints.
        seed: of the draws.
    """

    @property
    def out(self) -> Path: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def save_every(self) -> int: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Loop:
    """Limits and log of one piece of a run.

    Attributes:
        ends: time of `time.monotonic` after which the piece ends with a checkpoint; None for the last step alone.
        log: JSON lines, one a piece: first and last step, and seconds; None for none.
    """

    ends: float | None = None
    log: Path | None = None


def train_steps(
    accelerator: Accelerator, objective: nn.Module, settings: LoopSettings, *, draw: Draw, loop: Loop | None = None
) -> bool:
    """Train from the run's newest checkpoint, or from the start, to the last step.

    Args:
        accelerator: device and processes of the launch.
        objective: network and loss in one module: a batch in, a scalar loss out.
        settings: settings of the run.
        draw: gives the batch of a step, from its number and its source of randomness.
        loop: limits and log of this piece; none by default.

    Returns:
        whether the last step was reached.

    Raises:
        InputError: if the loss becomes infinite or NaN.
    """
    optimizer = torch.optim.AdamW(objective.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = LambdaLR(optimizer, lambda step: cosine_schedule(step, settings.steps))
    objective, optimizer = accelerator.prepare(objective, optimizer)
    accelerator.register_for_checkpointing(schedule)
    first = load_newest_state(accelerator, settings.out)
    loop = loop or Loop()
    started, step = time.monotonic(), first - 1
    for step in range(first, settings.steps):
        rng = np.random.default_rng([settings.seed, accelerator.process_index, step])
        loss = objective(*draw(step, rng))
        if not torch.isfinite(loss):
            raise InputError(f"step {step + 1}: the loss is {loss.item()}; go on with --mixed-precision no")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if (step + 1) % 100 == 0 and accelerator.is_main_process:
            speed = (step + 1 - first) / (time.monotonic() - started)
            logger.info("step %d of %d, loss %.4f, %.2f steps/s", step + 1, settings.steps, loss.item(), speed)
        late = loop.ends is not None and _agreed(accelerator, late=time.monotonic() > loop.ends)
        if (step + 1) % settings.save_every == 0 or late:
            save_state(accelerator, settings.out, step + 1)
        if late:
            break
    if loop.log is not None and accelerator.is_main_process:
        seconds = round(time.monotonic() - started, 1)
        with loop.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"from": first, "to": step + 1, "seconds": seconds}) + "\n")
    accelerator.wait_for_everyone()
    return step + 1 >= settings.steps


def _agreed(accelerator: Accelerator, *, late: bool) -> bool:
    """Whether any process is late: all then end at the same step."""
    return bool(accelerator.reduce(torch.tensor(float(late), device=accelerator.device), reduction="sum") > 0)


def end(accelerator: Accelerator) -> None:
    """Wait for the other processes, free the networks, then leave the process group."""
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    accelerator.end_training()


def cosine_schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step: up over the first 2 % of the steps, then down to 0 as a cosine."""
    warmup = max(1, steps // 50)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def save_state(accelerator: Accelerator, out: Path, step: int) -> None:
    """Write the state beside the others and rename it; then the others go."""
    final = out / "checkpoints" / f"{step:08d}"
    partial = final.with_name(f"{final.name}.partial")
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        partial.rename(final)
        for other in final.parent.iterdir():
            if other != final:
                shutil.rmtree(other)
    accelerator.wait_for_everyone()


def load_newest_state(accelerator: Accelerator, out: Path) -> int:
    """Load the run's newest state, if there is one; the first step to do."""
    folders = sorted(path for path in (out / "checkpoints").glob("*") if path.name.isdigit())
    if not folders:
        return 0
    accelerator.load_state(str(folders[-1]))
    return int(folders[-1].name)
