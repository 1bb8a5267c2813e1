"""Training of any objective, a module that maps a batch to its loss, in the loop of `loop.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import replacing_folder, write_text
from amodal_diffusion.training.batches import Clips, Counted
from amodal_diffusion.training.checkpoints import Checkpoints
from amodal_diffusion.training.distributed import (
    Termination,
    make_accelerator,
    together,
)
from amodal_diffusion.training.log import start_tracker
from amodal_diffusion.training.loop import TRY_MASKS, TrainingLoop, TrainingResult
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.run_settings import RateSettings, RunSettings
from amodal_diffusion.training.setup import end

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
        next_step: what a user does with the exported ``{model}``.
    """

    objective: nn.Module
    clips: Clips[T]
    join: Callable[[list[T]], Any]
    groups: list[dict[str, Any]]
    export: Callable[[Path], None]
    text: str
    workers: int = 0
    next_step: str = TRY_MASKS


def parameter_groups(network: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for AdamW: matrices with decay; vectors, such as biases and norms, without.

    Each trained parameter is in exactly one. (The released code leaves out biases and norms by accident.)

    Args:
        network: its parameters that require gradients are grouped.
        weight_decay: of the first group.
    """
    trained = [value for value in network.parameters() if value.requires_grad]
    matrices = [value for value in trained if value.ndim > 1]
    rest = [value for value in trained if value.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


class _Buffers:
    """Statistics of batch normalization, which checkpoints would lack: they hold only trained weights."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.network.named_buffers()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in self.network.named_buffers():
            value.copy_(state[name])


class ObjectiveTrainer(TrainingLoop[T]):
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

    skip_option = "loop.on_bad_sample"
    rate_setting = "rate.learning_rate"

    def __init__(
        self,
        task: Task[T],
        settings: LoopSettings,
        rate: RateSettings,
        accelerator: Accelerator,
        *,
        termination: Termination | None = None,
    ) -> None:
        super().__init__(settings, accelerator, clips=task.clips, workers=task.workers, termination=termination)
        self.task, self.rate = task, rate
        self.next_step = task.next_step
        objective = task.objective.train()
        self.parameters = [value for value in objective.parameters() if value.requires_grad]
        _check_groups(task.groups, self.parameters)
        self.network, self.optimizer = accelerator.prepare(objective, _optimizer(task.groups, rate))
        accelerator.register_for_checkpointing(_Buffers(objective))
        self.checkpoints = Checkpoints(
            settings.output, accelerator, unet=objective, ema=None, keep=settings.keep_checkpoints
        )

    def resume(self) -> None:
        """Load the checkpoint that ``settings.resume`` selects, if any; then write ``settings.yaml``.

        Raises:
            InputError: if the checkpoint does not fit, is damaged or does not exist.
        """
        super().resume()
        together(self._note_settings)
        start_tracker(self.settings, self.accelerator)

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

    def _loss(self, batch: Counted[T]) -> Tensor:
        generator = seeded_generator("training", self.settings.seed, batch.counts[0])
        joined = self.task.join(batch.clips).to(self.accelerator.device)
        loss: Tensor = self.network(joined, generator, self.progress.step)
        return loss

    def _rate(self) -> float:
        return self.rate.at(self.progress.step, steps=self.settings.steps)

    @property
    def _max_grad_norm(self) -> float:
        return self.rate.max_grad_norm

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
