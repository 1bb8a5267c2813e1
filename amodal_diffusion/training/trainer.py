"""The one training loop of both stages, under Accelerate: any number of processes, any precision, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.unet import trainable_parameters
from amodal_diffusion.training.checkpoints import Checkpoints, Progress, averaged_weights, export, find_checkpoint
from amodal_diffusion.training.clips import Counted, endless_batches
from amodal_diffusion.training.latents import LatentBatch, drop_guide, encode_batch, join_latents, reverse_time
from amodal_diffusion.training.log import RunLog
from amodal_diffusion.training.objective import training_loss
from amodal_diffusion.training.order import BatchCounts, ClipOrder, seeded_generator, stream_seed
from amodal_diffusion.training.settings import OptimizerSettings, TrainingSettings
from amodal_diffusion.training.tasks import TaskBatch, join

Validate = Callable[[StageComponents, int], dict[str, float]]


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        step: optimizer steps done in all.
        finished: whether those were all; False where the time limit came first.
        model: folder of the exported model.
    """

    step: int
    finished: bool
    model: Path


def learning_rate(settings: OptimizerSettings, step: int, *, steps: int) -> float:
    """Learning rate of a step: a pure function of its number, so that there is nothing to save.

    Args:
        settings: peak, warm-up and schedule.
        step: optimizer steps done before, from 0.
        steps: optimizer steps in all.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


class Trainer:
    """A training run.

    Args:
        settings: of the run.
        accelerator: the processes of the run.
        components: the networks; the UNet is trained in place.
        clips: what is trained on: prepared clips, or precomputed latents of one clip each.
        validate: called with the networks (moving average in place) and the step by all processes together;
            returns figures for the log.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        accelerator: Accelerator,
        *,
        components: StageComponents,
        clips: Dataset[TaskBatch] | Dataset[LatentBatch],
        validate: Validate | None = None,
    ) -> None:
        self.settings = settings
        self.accelerator = accelerator
        self.components = components
        self.clips = clips
        self.validate = validate
        unet = components.unet.train()
        self.parameters = trainable_parameters(unet, settings.model.trainable)
        if settings.model.attention == "plain":
            unet.set_default_attn_processor()
        if settings.model.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        optimizer = settings.optimizer
        self.unet, self.optimizer = accelerator.prepare(
            unet,
            torch.optim.AdamW(
                self.parameters,
                lr=optimizer.learning_rate,
                betas=optimizer.betas,
                weight_decay=optimizer.weight_decay,
                eps=optimizer.epsilon,
                fused=True,
            ),
        )
        components.vae.to(accelerator.device)
        components.image_encoder.to(accelerator.device)
        self.ema = EMAModel(self.parameters, decay=optimizer.ema_decay, foreach=True) if optimizer.ema_decay else None
        self.checkpoints = Checkpoints(
            settings.output, accelerator, unet=unet, ema=self.ema, keep=settings.keep_checkpoints
        )
        self._log = RunLog(settings, accelerator)
        self._ends = time.monotonic() + 60 * settings.max_minutes if settings.max_minutes > 0 else math.inf

    def fit(self) -> TrainingResult:
        """Train to the last step or to the time limit; checkpoint, validate, log and export on the way.

        Returns:
            how it ended.

        Raises:
            InputError: if the checkpoint to resume from does not fit.
        """
        settings = self.settings
        folder = find_checkpoint(settings.output, settings.resume)
        progress = self.checkpoints.load(folder) if folder else Progress()
        self._log.start(progress, folder)
        batches = self._batches(progress.clips)
        stopped = False
        while progress.step < settings.steps and not stopped:
            # Nothing below draws from the global generator; seeding it keeps resume exact if a network ever does.
            torch.manual_seed(stream_seed("global", settings.seed, progress.step, self.accelerator.process_index))
            loss, norm, taken = self._step(batches, progress.step)
            progress = Progress(progress.step + 1, progress.clips + taken)
            self._log.step(progress, loss=loss, norm=norm, rate=self.optimizer.param_groups[0]["lr"])
            stopped = self._out_of_time()
            last = stopped or progress.step == settings.steps
            if last or progress.step % settings.checkpoint_every == 0:
                self.checkpoints.save(progress)
            self._validate(progress.step, last=last)
        return self._finish(progress)

    def _batches(self, taken: int) -> Iterator[Counted[Any]]:
        """This process's batches after ``taken`` clips of all processes together."""
        length = len(self.clips)  # type: ignore[arg-type]  # torch's Dataset does not promise a length
        counts = BatchCounts(
            taken,
            batch_size=self.settings.batch_size,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        order = ClipOrder(length, self.settings.seed)
        return endless_batches(self.clips, order, counts, workers=self.settings.data.workers)

    def _step(self, batches: Iterator[Counted[Any]], step: int) -> tuple[Tensor, Tensor, int]:
        """One optimizer step over all accumulated batches.

        Returns:
            mean loss and gradient norm, float32 scalars, and the number of clips that all processes took.
        """
        accelerator, settings = self.accelerator, self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings.optimizer, step, steps=settings.steps)
        losses, norm = [], torch.zeros(())
        for _ in range(settings.gradient_accumulation_steps):
            batch = next(batches)
            with accelerator.accumulate(self.unet):
                loss = self._loss(batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(self.parameters, settings.optimizer.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            losses.append(loss.detach())
        if self.ema is not None:
            self.ema.step(self.parameters)
        taken = settings.batch_size * len(losses) * accelerator.num_processes
        return torch.stack(losses).mean(), norm, taken

    def _loss(self, batch: Counted[Any]) -> Tensor:
        settings, device = self.settings, self.accelerator.device
        generators = [seeded_generator("training", settings.seed, count, device=device) for count in batch.counts]
        if isinstance(batch.clips[0], LatentBatch):
            latents = join_latents(batch.clips).to(device)
        else:
            latents = encode_batch(
                join(batch.clips).to(device),
                vae=self.components.vae,
                image_encoder=self.components.image_encoder,
                noise=settings.noise,
                generators=generators,
            )
        latents = drop_guide(latents, settings.data.guide_dropout, generators=generators)
        return training_loss(
            self.unet,
            reverse_time(latents, settings.data.reversed_share, generators=generators),
            noise=settings.noise,
            conditioning_dropout=settings.conditioning_dropout,
            generators=generators,
        )

    def _out_of_time(self) -> bool:
        """Whether any process is past the time limit: all must agree, or they would wait for each other."""
        if math.isinf(self._ends):
            return False
        late = torch.tensor(float(time.monotonic() > self._ends), device=self.accelerator.device)
        return bool(self.accelerator.reduce(late, reduction="sum") > 0)

    def _validate(self, step: int, *, last: bool) -> None:
        every = self.settings.validation.every
        if self.validate is None or every == 0 or not (last or step % every == 0):
            return
        unet = self.components.unet.eval()
        with averaged_weights(unet, self.ema):
            figures = self.validate(self.components, step)
        unet.train()
        self._log.figures(step, figures)

    def _finish(self, progress: Progress) -> TrainingResult:
        model = self.settings.output / "model"
        if self.accelerator.is_main_process:
            export(self.components, model, ema=self.ema)
        self.accelerator.wait_for_everyone()
        return TrainingResult(progress.step, progress.step >= self.settings.steps, model)
