"""Training loop for any objective: a module that maps a batch to its loss. Exact resumption, any number of processes.

The diffusion stages have a loop of their own (`trainer.py`), whose loss is that of the paper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from amodal_diffusion.io.atomic import replacing_folder, write_text
from amodal_diffusion.training.batches import (
    BadClip,
    BatchCounts,
    ClipOrder,
    Clips,
    Counted,
    endless_batches,
    seeded_generator,
    stream_seed,
)
from amodal_diffusion.training.checkpoints import Checkpoints, Progress, find_checkpoint
from amodal_diffusion.training.distributed import (
    Termination,
    Verdict,
    agree,
    main_first,
    make_accelerator,
    together,
)
from amodal_diffusion.training.log import RunLog, start_tracker
from amodal_diffusion.training.run_settings import RateSettings, RunSettings
from amodal_diffusion.training.setup import end
from amodal_diffusion.training.trainer import TrainingResult
from amodal_diffusion.types import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class LoopSettings(RunSettings):
    """Steps, checkpoints, precision and log of a run.

    Attributes:
        export_dtype: dtype of the exported weights; ``float16`` halves the files.
    """

    output: Path = Path("runs/objective")
    export_dtype: Literal["float32", "float16"] = "float32"

    @property
    def exported(self) -> torch.dtype:
        """Dtype of the exported weights."""
        return torch.float16 if self.export_dtype == "float16" else torch.float32

    def accelerator(self) -> Accelerator:
        """Join the other processes of the launch."""
        return make_accelerator(
            self.mixed_precision,
            cpu=self.cpu,
            accumulation=lambda _: self.gradient_accumulation_steps,
            tracker=self.tracker,
            log_folder=str(self.output),
        )


@dataclass(frozen=True)
class Task(Generic[T]):
    """What is trained, on what, and what comes out.

    Attributes:
        objective: called with a joined batch, a generator on the CPU and the number of earlier steps; returns the loss,
            a scalar. Its parameters that require gradients are trained, and all must take part in each loss.
        clips: training clips.
        join: joins clips into a batch that has ``to(device)``.
        groups: parameter groups of the optimizer; every trained parameter is in exactly one.
        export: writes the trained model into an empty folder.
        text: all settings as YAML, for ``settings.yaml``.
        workers: number of processes that prefetch clips; 0 loads clips in the training process.
    """

    objective: nn.Module
    clips: Clips[T]
    join: Callable[[list[T]], Any]
    groups: list[dict[str, Any]]
    export: Callable[[Path], None]
    text: str
    workers: int = 0


class _Buffers:
    """Statistics of batch normalization, which checkpoints would lack: they hold only trained weights."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.network.named_buffers()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in self.network.named_buffers():
            value.copy_(state[name])


class ObjectiveTrainer(Generic[T]):
    """Trains an objective: optimizer steps, checkpoints, log and export.

    Args:
        task: what is trained.
        settings: the loop.
        rate: the optimizer.
        accelerator: accelerator of this process.
        termination: records SIGTERM.

    Raises:
        InputError: if a trained parameter is in no group or in two.
    """

    def __init__(
        self,
        task: Task[T],
        settings: LoopSettings,
        rate: RateSettings,
        accelerator: Accelerator,
        *,
        termination: Termination | None = None,
    ) -> None:
        self.task, self.settings, self.rate = task, settings, rate
        self.accelerator = accelerator
        self.termination = termination or Termination()
        self.progress = Progress()
        objective = task.objective.train()
        self.parameters = [value for value in objective.parameters() if value.requires_grad]
        _check_groups(task.groups, self.parameters)
        self.objective, self.optimizer = accelerator.prepare(objective, _optimizer(task.groups, rate))
        accelerator.register_for_checkpointing(_Buffers(objective))
        self.checkpoints = Checkpoints(
            settings.output, accelerator, unet=objective, ema=None, keep=settings.keep_checkpoints
        )
        self._log = RunLog(settings, accelerator)
        self._origin: Path | None = None
        self._saved = 0
        self._ends = time.monotonic() + 60 * settings.max_minutes if settings.max_minutes > 0 else math.inf

    def resume(self) -> None:
        """Load the checkpoint that ``settings.resume`` selects, if any; then write ``settings.yaml``.

        Raises:
            InputError: if the checkpoint does not fit, is damaged or does not exist.
        """
        self._origin = main_first(self.accelerator, lambda: find_checkpoint(self.settings.output, self.settings.resume))
        if self._origin is not None:
            self.progress = self.checkpoints.load(self._origin)
            self._saved = self.progress.step
        together(self._note_settings)
        start_tracker(self.settings, self.accelerator)

    def fit(self) -> TrainingResult:
        """Train until the last step, the time limit or SIGTERM.

        Raises:
            InputError: if a checkpoint cannot be written, a clip cannot be read, or the loss or gradient is not finite
                in ``max_bad_steps`` consecutive steps.
        """
        self._log.start(self.progress, self._origin)
        terminated, settings = False, self.settings
        last = self.progress.step >= settings.steps
        with closing(self._batches()) as batches:
            while not (last or terminated):
                verdict = self._step(batches)
                terminated = verdict.terminated
                last = verdict.out_of_time or self.progress.step == settings.steps
                if last or terminated or self.progress.step % settings.checkpoint_every == 0:
                    self._save()
        if terminated:
            self._log.event(self.progress, "terminated", {})
        finished = self.progress.step >= settings.steps
        return TrainingResult(self.progress.step, finished, terminated, settings.output / "model")

    def export(self) -> None:
        """Write the model, replacing an earlier export; all processes must call this together.

        Raises:
            InputError: in every process, if it cannot be written.
        """

        def write() -> None:
            if self.accelerator.is_main_process:
                with replacing_folder(self.settings.output / "model") as fresh:
                    self.task.export(fresh)

        together(write)

    def _batches(self) -> Generator[Counted[T]]:
        """Batches of this process, after all processes together have taken ``progress.clips`` clips."""
        counts = BatchCounts(
            self.progress.clips,
            batch_size=self.settings.batch_size,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        order = ClipOrder(len(self.task.clips), self.settings.seed)
        return endless_batches(self.task.clips, order, counts, workers=self.task.workers)

    def _step(self, batches: Iterator[Counted[T]]) -> Verdict:
        """One optimizer step over all accumulated batches; if any process gets a NaN loss, all processes skip it."""
        accelerator, settings, step = self.accelerator, self.settings, self.progress.step
        # Dropout draws from the global generator; seeding it makes resumption exact.
        torch.manual_seed(stream_seed("global", settings.seed, step, accelerator.process_index))
        rate = self.rate.at(step, steps=settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        taken, losses = [], []
        for _ in range(accelerator.gradient_accumulation_steps):
            taken.append(next(batches))
            generator = seeded_generator("training", settings.seed, taken[-1].counts[0])
            with accelerator.accumulate(self.objective):
                batch = self.task.join(taken[-1].clips).to(accelerator.device)
                loss = self.objective(batch, generator, step)
                accelerator.backward(loss)
            losses.append(loss.detach())
        norm = torch.as_tensor(accelerator.clip_grad_norm_(self.parameters, self.rate.max_grad_norm))
        unread = [bad for counted in taken for bad in counted.bad]
        verdict = agree(
            accelerator,
            losses=torch.stack(losses),
            norm=norm,
            unread=len(unread),
            terminated=self.termination.requested,
            out_of_time=time.monotonic() > self._ends,
        )
        if verdict.unread:
            self._report_unread(unread)
        if not verdict.not_finite:
            self.optimizer.step()
        elif accelerator.scaler is not None:
            accelerator.scaler.update()
        self.optimizer.zero_grad()
        self.progress = replace(
            self.progress,
            step=step + 1,
            clips=self.progress.clips + settings.batch_size * len(losses) * accelerator.num_processes,
            skipped_steps=self.progress.skipped_steps + verdict.not_finite,
            skipped_in_a_row=self.progress.skipped_in_a_row + 1 if verdict.not_finite else 0,
            skipped_clips=self.progress.skipped_clips + verdict.unread,
        )
        mean = None if verdict.not_finite else torch.stack(losses).mean()
        self._log.step(self.progress, loss=mean, norm=norm, rate=rate)
        if verdict.not_finite:
            self._report_not_finite(taken)
        return verdict

    def _report_unread(self, unread: list[BadClip]) -> None:
        """Log clips that could not be read; with ``on_bad_sample: stop``, save a checkpoint and raise an InputError."""
        everywhere: list[BadClip] = gather_object(unread)
        if self.settings.on_bad_sample == "stop":
            self._save()
            first = everywhere[0]
            raise InputError(
                f"data: {first.name} cannot be read ({first.reason}); repair it, or give --loop.on_bad_sample skip to "
                "train without it"
            )
        named = [f"{clip.name}: {clip.reason}" for clip in everywhere]
        self._log.event(self.progress, "skipped clips", {"clips": named})

    def _report_not_finite(self, taken: list[Counted[T]]) -> None:
        """Log the clips of a skipped step; raise an InputError after too many in a row."""
        clips = gather_object([name for counted in taken for name in counted.names])
        self._log.event(self.progress, "skipped step", {"reason": "loss or gradient not finite", "clips": clips})
        if self.progress.skipped_in_a_row >= self.settings.max_bad_steps:
            raise InputError(
                f"loss: not finite in {self.progress.skipped_in_a_row} steps in a row up to step {self.progress.step}, "
                f"the last with {', '.join(clips)}; go on from the newest checkpoint with a lower rate.learning_rate"
            )

    def _save(self) -> None:
        """Write a checkpoint, unless this step already has one."""
        if self._saved != self.progress.step:
            self.checkpoints.save(self.progress)
            self._saved = self.progress.step

    def _note_settings(self) -> None:
        if self.accelerator.is_main_process:
            self.settings.output.mkdir(parents=True, exist_ok=True)
            write_text(self.settings.output / "settings.yaml", self.task.text)


S = TypeVar("S", bound="MethodSettings")


class MethodSettings(Protocol):
    """What the settings of every method have."""

    @property
    def loop(self) -> LoopSettings:
        """Steps, checkpoints, precision and log."""
        ...

    @property
    def rate(self) -> RateSettings:
        """Optimizer and learning rate."""
        ...


def train_method(settings: S, prepare: Callable[[S, Accelerator], tuple[S, Task[Any]]]) -> TrainingResult:
    """Train in Python as the scripts in ``train/`` do: prepare, go on from the newest checkpoint, train, export.

    Args:
        settings: of the method.
        prepare: makes the task; called with the processes of the launch, whose number may complete the settings.

    Raises:
        InputError: if settings, networks, clips or checkpoint do not fit each other.
    """
    with Termination() as termination:
        accelerator = settings.loop.accelerator()
        settings, task = prepare(settings, accelerator)
        trainer = ObjectiveTrainer(task, settings.loop, settings.rate, accelerator, termination=termination)
        trainer.resume()
        result = trainer.fit()
        if not result.terminated:
            trainer.export()
        del trainer, task
        end(accelerator)
        return result


def _optimizer(groups: list[dict[str, Any]], rate: RateSettings) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if rate.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate.learning_rate, betas=rate.betas, eps=rate.epsilon)


def _check_groups(groups: list[dict[str, Any]], parameters: list[nn.Parameter]) -> None:
    """Check that every trained parameter is in exactly one group.

    Raises:
        InputError: if one is not.
    """
    grouped = [id(value) for group in groups for value in group["params"]]
    if sorted(grouped) != sorted(map(id, parameters)):
        raise InputError(
            f"optimizer: expected each of the {len(parameters)} trained parameters in exactly one group, got "
            f"{len(grouped)} entries of {len(set(grouped))} parameters"
        )
