"""The training loop of every method: batches, optimizer steps, checkpoints and log, with exact resumption.

Subclasses say what is trained and what the loss is: `trainer.py` the two diffusion stages, `objective_trainer.py` any
module that maps a batch to its loss.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.training.batches import BadClip, Clips, Counted, endless_batches, order_of
from amodal_diffusion.training.checkpoints import Checkpoints, Progress, find_checkpoint
from amodal_diffusion.training.damaged import Damaged, add_damaged, excess_of_damage
from amodal_diffusion.training.distributed import Termination, Verdict, agree, main_first, whole
from amodal_diffusion.training.log import RunLog
from amodal_diffusion.training.order import BatchCounts, stream_seed
from amodal_diffusion.training.run_settings import RunSettings

T = TypeVar("T")


TRY_MASKS = "try it with: amodal-diffusion complete CLIP --masks MASKS --model {model} --stages masks"
TRY_CONTENT = "try it with: amodal-diffusion complete CLIP --masks MASKS --content-model {model}"
"""What a user does with an exported model of stage 1 or 2."""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a run.

    Attributes:
        step: number of optimizer steps done, over all runs.
        finished: whether the last step was reached, before the time limit or SIGTERM.
        terminated: whether SIGTERM ended the run; it then saved a checkpoint but exported no model.
        model: folder of the exported model.
        next_step: what a user does with the model, in words.
    """

    step: int
    finished: bool
    terminated: bool
    model: Path
    next_step: str


class TrainingLoop(ABC, Generic[T]):
    """Runs optimizer steps. A subclass's ``__init__`` prepares `network`, `optimizer`, `parameters` and `checkpoints`.

    Args:
        settings: steps, batches, checkpoints and log.
        accelerator: accelerator of this process.
        clips: training clips.
        workers: number of processes that prefetch clips.
        termination: records SIGTERM.

    Attributes:
        order: maps the running count of all processes to clips.
        network: what is trained, with Accelerate's wrapper.
        optimizer: with Accelerate's wrapper.
        parameters: what the optimizer changes.
        checkpoints: of the output folder.
        progress: of all processes.
    """

    next_step = TRY_MASKS
    skip_option: ClassVar[str] = "on_bad_sample"
    rate_setting: ClassVar[str] = "optimizer.learning_rate"

    network: nn.Module
    optimizer: Any  # Accelerate's
    parameters: list[nn.Parameter]
    checkpoints: Checkpoints

    def __init__(
        self,
        settings: RunSettings,
        accelerator: Accelerator,
        *,
        clips: Clips[T],
        workers: int,
        termination: Termination | None,
    ) -> None:
        self.settings = settings
        self.accelerator = accelerator
        self.clips = clips
        self.order = order_of(clips, settings.seed)
        self.workers = workers
        self.termination = termination or Termination()
        self.progress = Progress()
        self._log = RunLog(settings, accelerator)
        self._origin: Path | None = None
        self._saved = 0
        self._ends = time.monotonic() + 60 * settings.max_minutes if settings.max_minutes > 0 else math.inf

    @abstractmethod
    def export(self) -> None:
        """Write the model to ``model`` in the output folder; all processes must call this together.

        Raises:
            InputError: in every process, if it cannot be written.
        """

    @abstractmethod
    def _loss(self, batch: Counted[T]) -> Tensor:
        """Loss of a batch, a scalar with gradients."""

    @abstractmethod
    def _rate(self) -> float:
        """Learning rate of the next step."""

    @property
    @abstractmethod
    def _max_grad_norm(self) -> float:
        """Gradients are clipped to this norm."""

    def _stepped(self) -> None:
        """Called after each optimizer step, also after a skipped one."""

    def _checked(self, *, last: bool) -> bool:  # noqa: ARG002 - of the subclasses
        """Called after each step and its checkpoint; False ends the run as SIGTERM does."""
        return True

    def resume(self) -> None:
        """Load the checkpoint that ``settings.resume`` selects, if any.

        Raises:
            InputError: if the checkpoint does not fit, is damaged or does not exist.
        """
        self._origin = main_first(self.accelerator, lambda: find_checkpoint(self.settings.output, self.settings.resume))
        if self._origin is not None:
            self.progress = self.checkpoints.load(self._origin)
            self._saved = self.progress.step

    def fit(self) -> TrainingResult:
        """Train until the last step, the time limit or SIGTERM, with checkpoints and logging.

        Returns:
            the result of the run.

        Raises:
            InputError: if a checkpoint cannot be written, a clip cannot be read, or the loss or gradient is not finite
                in ``max_bad_steps`` consecutive steps.
        """
        self._log.start(self.progress, self._origin)
        with closing(self._batches(self.progress.clips)) as batches:
            terminated = self._train(batches)
        if terminated:
            self._log.event(self.progress, "terminated", {})
        finished = self.progress.step >= self.settings.steps
        model = self.settings.output / "model"
        return TrainingResult(self.progress.step, finished, terminated, model, self.next_step.format(model=model))

    def _train(self, batches: Iterator[Counted[T]]) -> bool:
        """Run the remaining steps; return whether SIGTERM ended them."""
        settings = self.settings
        last = self.progress.step >= settings.steps
        while not last:
            # Dropout draws from the global generator; seeding it makes resumption exact.
            seed = stream_seed("global", settings.seed, self.progress.step, self.accelerator.process_index)
            torch.manual_seed(seed)
            verdict = self._step(batches)
            last = verdict.out_of_time or self.progress.step == settings.steps
            if last or verdict.terminated or self.progress.step % settings.checkpoint_every == 0:
                self._save()
            if verdict.terminated or not self._checked(last=last):
                self._save()
                return True
        return False

    def _batches(self, taken: int) -> Generator[Counted[T]]:
        """Batches of this process, after all processes together have taken ``taken`` clips."""
        counts = BatchCounts(
            taken,
            batch_size=self.settings.batch_size,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        pin = self.accelerator.device.type == "cuda"
        return endless_batches(self.clips, self.order, counts, workers=self.workers, pin=pin)

    def _step(self, batches: Iterator[Counted[T]]) -> Verdict:
        """One optimizer step over all accumulated batches; if any process gets a NaN loss, all processes skip it."""
        accelerator, settings = self.accelerator, self.settings
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        taken, losses = [], []
        for _ in range(accelerator.gradient_accumulation_steps):
            taken.append(next(batches))
            with accelerator.accumulate(self.network):
                loss = self._loss(taken[-1])
                accelerator.backward(loss)
            losses.append(loss.detach())
        norm = accelerator.clip_grad_norm_(self.parameters, self._max_grad_norm)
        norm = whole(torch.as_tensor(norm, device=accelerator.device))  # DeepSpeed returns a Python number
        unread = [bad for batch in taken for bad in batch.bad]
        verdict = agree(
            accelerator,
            losses=torch.stack(losses),
            norm=norm,
            unread=len(unread),
            terminated=self.termination.requested,
            out_of_time=time.monotonic() > self._ends,
        )
        damaged = self._report_unread(unread) if verdict.unread else self.progress.damaged
        if not verdict.not_finite:
            self.optimizer.step()
        elif accelerator.scaler is not None:
            accelerator.scaler.update()
        self.optimizer.zero_grad()
        self._stepped()
        clips = settings.batch_size * len(losses) * accelerator.num_processes
        self.progress = Progress(
            step=self.progress.step + 1,
            clips=self.progress.clips + clips,
            skipped_steps=self.progress.skipped_steps + verdict.not_finite,
            skipped_in_a_row=self.progress.skipped_in_a_row + 1 if verdict.not_finite else 0,
            skipped_clips=self.progress.skipped_clips + verdict.unread,
            damaged=damaged,
        )
        self._log.step(
            self.progress, loss=None if verdict.not_finite else torch.stack(losses).mean(), norm=norm, rate=rate
        )
        if verdict.not_finite:
            self._report_not_finite(taken, losses)
        return verdict

    def _report_unread(self, unread: list[BadClip]) -> Damaged:
        """Log clips that were never unreadable before; return all that were, by data set.

        Raises:
            InputError: with ``on_bad_sample: stop``, or if a data set has too many; a checkpoint is saved before.
        """
        everywhere: list[BadClip] = gather_object(unread)
        if self.settings.on_bad_sample == "stop":
            first = everywhere[0]
            self._refuse_clips(
                f"data: {first.name} cannot be read ({first.reason}); repair it, or give {self.skip_option}=skip to "
                "train without it"
            )
        damaged, fresh = add_damaged(self.progress.damaged, everywhere, self.order)
        if fresh:
            self._log.event(
                self.progress, "skipped clips", {"clips": [f"{clip.name}: {clip.reason}" for clip in fresh]}
            )
        if fresh and (excess := excess_of_damage(fresh, damaged, self.order)) is not None:
            self._refuse_clips(excess)
        return damaged

    def _refuse_clips(self, message: str) -> NoReturn:
        if self.accelerator.distributed_type != DistributedType.DEEPSPEED:  # DeepSpeed has already updated
            self._save()
        raise InputError(message)

    def _report_not_finite(self, taken: list[Counted[T]], losses: list[Tensor]) -> None:
        """Log the clips of a skipped step; raise an InputError after too many in a row."""
        names = [name for batch, loss in zip(taken, losses, strict=True) if not loss.isfinite() for name in batch.names]
        clips = gather_object(names) or gather_object([name for batch in taken for name in batch.names])
        self._log.event(self.progress, "skipped step", {"reason": "loss or gradient not finite", "clips": clips})
        if self.progress.skipped_in_a_row >= self.settings.max_bad_steps:
            raise InputError(
                f"loss: not finite in {self.progress.skipped_in_a_row} steps in a row up to step {self.progress.step}, "
                f"the last with {', '.join(clips)}; go on from the newest checkpoint with a lower "
                f"{self.rate_setting}, or with bf16 in place of fp16"
            )

    def _save(self) -> None:
        """Write a checkpoint, unless this step already has one."""
        if self._saved != self.progress.step:
            self.checkpoints.save(self.progress)
            self._saved = self.progress.step
