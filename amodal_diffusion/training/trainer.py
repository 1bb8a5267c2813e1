"""Training loop of both stages, with Accelerate: any number of processes, mixed precision, exact resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from diffusers.training_utils import EMAModel
from torch import Tensor

from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import decode_latents
from amodal_diffusion.models.lora import without_adapters
from amodal_diffusion.models.schedulers import highest_noise_level
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
from amodal_diffusion.training.checkpoints import Checkpoints, Progress, averaged_weights, export, find_checkpoint
from amodal_diffusion.training.dataset import TaskBatch, join
from amodal_diffusion.training.distributed import (
    Termination,
    Verdict,
    agree,
    holds_whole_network,
    main_first,
    tell_deepspeed,
    together,
    trained_parameters,
    whole,
    whole_network,
)
from amodal_diffusion.training.latent_cache import LatentCache
from amodal_diffusion.training.latents import (
    LatentBatch,
    cut_frames,
    drop_guide,
    encode_batch,
    join_latents,
    reverse_time,
    take_samples,
)
from amodal_diffusion.training.log import RunLog
from amodal_diffusion.training.loss import HiddenWeight, PixelLoss, one_step_loss, training_loss
from amodal_diffusion.training.networks import make_optimizer, prepare_unet
from amodal_diffusion.training.settings import OptimizerSettings, TrainingSettings
from amodal_diffusion.training.validation import Findings
from amodal_diffusion.types import InputError

Validate = Callable[[StageComponents, int], Findings | None]


@dataclass(frozen=True)
class TrainingResult:
    """Result of a run.

    Attributes:
        step: number of optimizer steps done, over all runs.
        finished: whether the last step was reached, before the time limit or SIGTERM.
        terminated: whether SIGTERM ended the run; it then saved a checkpoint but exported no model.
        model: folder of the exported model.
    """

    step: int
    finished: bool
    terminated: bool
    model: Path


def learning_rate(settings: OptimizerSettings, step: int, *, steps: int) -> float:
    """Learning rate of a step, a pure function of the step number, so that checkpoints need no scheduler state.

    Args:
        settings: peak, warmup and schedule.
        step: number of earlier optimizer steps, from 0.
        steps: total number of optimizer steps.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


class Trainer:
    """Trains one stage: optimizer steps, checkpoints, validation, log and export.

    Args:
        settings: resolved training settings.
        accelerator: accelerator of this process.
        components: the networks; the UNet is trained in place.
        clips: training clips, as pixels or as precomputed latents.
        validate: validation, called by all processes together with the networks (with EMA weights, if any) and the
            step. It returns its findings, or None if SIGTERM interrupted it.
        termination: records SIGTERM.
        cache: cached latents and tokens of the clips; missing ones are computed in each step.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        accelerator: Accelerator,
        *,
        components: StageComponents,
        clips: Clips[TaskBatch] | Clips[LatentBatch],
        validate: Validate | None = None,
        termination: Termination | None = None,
        cache: LatentCache | None = None,
    ) -> None:
        self.settings = settings
        self.accelerator = accelerator
        self.components = components
        self.clips = clips
        self.validate = validate
        self.cache = cache
        self.termination = termination or Termination()
        self.progress = Progress()
        unet = components.unet.train()
        self.parameters = prepare_unet(unet, settings, whole=holds_whole_network(accelerator))
        optimizer = settings.optimizer
        tell_deepspeed(accelerator, batch_size=settings.batch_size, max_grad_norm=optimizer.max_grad_norm)
        self.unet, self.optimizer = accelerator.prepare(unet, make_optimizer(self.parameters, optimizer))
        self.parameters = list(trained_parameters(unet).values())  # FSDP has replaced them with sharded ones
        if settings.model.compile:
            # In place, which keeps the names of the weights and the class of the network
            unet.compile(mode=settings.model.compile_mode)
        needed = not settings.data.encoded or settings.pixel_weight > 0
        self._move_encoders(accelerator.device if needed else "cpu")
        decay = optimizer.ema_decay
        at_once = holds_whole_network(accelerator)  # torch cannot copy lists of sharded tensors
        self.ema = EMAModel(self.parameters, decay=decay, foreach=at_once) if decay else None
        self.checkpoints = Checkpoints(
            settings.output, accelerator, unet=unet, ema=self.ema, keep=settings.keep_checkpoints
        )
        self._log = RunLog(settings, accelerator)
        self._origin: Path | None = None
        self._saved = 0
        self._ends = time.monotonic() + 60 * settings.max_minutes if settings.max_minutes > 0 else math.inf

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
        """Train until the last step, the time limit or SIGTERM, with checkpoints, validation and logging.

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
        return TrainingResult(self.progress.step, finished, terminated, self.settings.output / "model")

    def export(self) -> None:
        """Write the model, with the EMA of its weights, if any; all processes must call this together.

        Raises:
            InputError: in every process, if it cannot be written.
        """
        with averaged_weights(self.components.unet, self.ema):
            components = replace(self.components, unet=whole_network(without_adapters(self.components.unet)))
            model = self.settings.output / "model"
            together(lambda: export(components, model) if self.accelerator.is_main_process else None)

    def _train(self, batches: Iterator[Counted[Any]]) -> bool:
        """Run the remaining steps; return whether SIGTERM ended them."""
        settings = self.settings
        last = self.progress.step >= settings.steps
        while not last:
            # No code below uses the global generator; seeding it keeps resumption exact if a network ever does.
            seed = stream_seed("global", settings.seed, self.progress.step, self.accelerator.process_index)
            torch.manual_seed(seed)
            verdict = self._step(batches)
            last = verdict.out_of_time or self.progress.step == settings.steps
            if last or verdict.terminated or self.progress.step % settings.checkpoint_every == 0:
                self._save()
            if verdict.terminated or not self._validate(last=last):
                self._save()
                return True
        return False

    def _batches(self, taken: int) -> Generator[Counted[Any]]:
        """Batches of this process, after all processes together have taken ``taken`` clips."""
        counts = BatchCounts(
            taken,
            batch_size=self.settings.batch_size,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        order = ClipOrder(len(self.clips), self.settings.seed)
        pin = self.accelerator.device.type == "cuda"
        return endless_batches(self.clips, order, counts, workers=self.settings.data.workers, pin=pin)

    def _step(self, batches: Iterator[Counted[Any]]) -> Verdict:
        """One optimizer step over all accumulated batches; if any process gets a NaN loss, all processes skip it."""
        accelerator, settings = self.accelerator, self.settings
        rate = learning_rate(settings.optimizer, self.progress.step, steps=settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        taken, losses = [], []
        for _ in range(accelerator.gradient_accumulation_steps):
            taken.append(next(batches))
            with accelerator.accumulate(self.unet):
                loss = self._loss(taken[-1])
                accelerator.backward(loss)
            losses.append(loss.detach())
        norm = accelerator.clip_grad_norm_(self.parameters, settings.optimizer.max_grad_norm)
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
        if verdict.unread:
            self._report_unread(unread)
        if not verdict.not_finite:
            self.optimizer.step()
        elif accelerator.scaler is not None:
            accelerator.scaler.update()
        self.optimizer.zero_grad()
        if self.ema is not None:  # also after a skipped step, because the EMA counts steps itself
            self.ema.step(self.parameters)
        clips = settings.batch_size * len(losses) * accelerator.num_processes
        self.progress = Progress(
            step=self.progress.step + 1,
            clips=self.progress.clips + clips,
            skipped_steps=self.progress.skipped_steps + verdict.not_finite,
            skipped_in_a_row=self.progress.skipped_in_a_row + 1 if verdict.not_finite else 0,
            skipped_clips=self.progress.skipped_clips + verdict.unread,
        )
        self._log.step(
            self.progress, loss=None if verdict.not_finite else torch.stack(losses).mean(), norm=norm, rate=rate
        )
        if verdict.not_finite:
            self._report_not_finite(taken, losses)
        return verdict

    def _report_unread(self, unread: list[BadClip]) -> None:
        """Log clips that could not be read; with ``on_bad_sample: stop``, save a checkpoint and raise an InputError."""
        everywhere: list[BadClip] = gather_object(unread)
        if self.settings.on_bad_sample == "stop":
            if self.accelerator.distributed_type != DistributedType.DEEPSPEED:  # DeepSpeed has already updated
                self._save()
            first = everywhere[0]
            raise InputError(
                f"data: {first.name} cannot be read ({first.reason}); repair it, or give --on-bad-sample skip to train "
                "without it"
            )
        self._log.event(
            self.progress, "skipped clips", {"clips": [f"{clip.name}: {clip.reason}" for clip in everywhere]}
        )

    def _report_not_finite(self, taken: list[Counted[Any]], losses: list[Tensor]) -> None:
        """Log the clips of a skipped step; raise an InputError after too many in a row."""
        names = [name for batch, loss in zip(taken, losses, strict=True) if not loss.isfinite() for name in batch.names]
        clips = gather_object(names) or gather_object([name for batch in taken for name in batch.names])
        self._log.event(self.progress, "skipped step", {"reason": "loss or gradient not finite", "clips": clips})
        if self.progress.skipped_in_a_row >= self.settings.max_bad_steps:
            raise InputError(
                f"loss: not finite in {self.progress.skipped_in_a_row} steps in a row up to step {self.progress.step}, "
                f"the last with {', '.join(clips)}; go on from the newest checkpoint with a lower "
                "optimizer.learning_rate, or with bf16 in place of fp16"
            )

    def _save(self) -> None:
        """Write a checkpoint, unless this step already has one."""
        if self._saved != self.progress.step:
            self.checkpoints.save(self.progress)
            self._saved = self.progress.step

    def _loss(self, batch: Counted[Any]) -> Tensor:
        settings, device = self.settings, self.accelerator.device
        generators = [seeded_generator("training", settings.seed, count, device=device) for count in batch.counts]
        if isinstance(batch.clips[0], LatentBatch):
            latents = join_latents([clip.to(device) for clip in batch.clips])
        else:
            clips = join([clip.to(device) for clip in batch.clips])
            self._log.hidden(clips.occlusions)
            with self.accelerator.autocast():
                latents = encode_batch(
                    clips,
                    vae=self.components.vae,
                    image_encoder=self.components.image_encoder,
                    noise=settings.noise,
                    generators=generators,
                    cache=self.cache,
                )
            latents = take_samples(latents, clips.samples)
        latents = drop_guide(latents, settings.data.guide_dropout, generators=generators)
        latents = reverse_time(latents, settings.data.reversed_share, generators=generators)
        if settings.one_step.enabled:
            return self._one_step_loss(latents, generators)
        return training_loss(
            self.unet,
            latents,
            noise=settings.noise,
            conditioning_dropout=settings.conditioning_dropout,
            generators=generators,
            pixels=self._pixels(),
            hidden=self._hidden(),
        )

    def _hidden(self) -> HiddenWeight | None:
        weight = self.settings.hidden_weight
        return HiddenWeight(weight, self.components.vae.config.scaling_factor) if weight > 0 else None

    def _one_step_loss(self, latents: LatentBatch, generators: Sequence[torch.Generator]) -> Tensor:
        frames = self.settings.one_step.frames_at(self.progress.step)
        if frames is not None:
            latents = cut_frames(latents, frames, generators=generators)
        sigma = highest_noise_level(self.components.scheduler, self.settings.sampling)
        return one_step_loss(self.unet, latents, sigma=sigma, generators=generators, pixels=self._pixels())

    def _pixels(self) -> PixelLoss | None:
        settings = self.settings
        if settings.pixel_weight == 0:
            return None

        def decode(latents: Tensor) -> Tensor:
            with self.accelerator.autocast():
                return decode_latents(self.components.vae, latents, decode_chunk_size=settings.pixel_frames)

        return PixelLoss(decode, settings.pixel_weight, settings.pixel_frames)

    def _validate(self, *, last: bool) -> bool:
        """Validate if it is due; return False if SIGTERM interrupted the validation."""
        step, every = self.progress.step, self.settings.validation.every
        if self.validate is None or every == 0 or not (last or step % every == 0):
            return True
        unet = self.components.unet.eval()
        encoders = self.components.vae.device
        self._move_encoders(self.accelerator.device)
        with averaged_weights(unet, self.ema):
            findings = self.validate(self.components, step)
        self._move_encoders(encoders)
        unet.train()
        if findings is None:
            return False
        self._log.figures(step, findings.figures)
        if findings.picture is not None:
            self._log.picture(step, findings.picture)
        return True

    def _move_encoders(self, device: torch.device | str) -> None:
        """Move VAE and image encoder; with encoded clips they stay on the CPU, which saves 3 GB on the device."""
        self.components.vae.to(device)
        self.components.image_encoder.to(device)
