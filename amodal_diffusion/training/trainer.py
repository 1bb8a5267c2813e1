"""Training of both diffusion stages: their networks, loss, EMA and validation in the loop of `loop.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor

from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import decode_latents
from amodal_diffusion.models.lora import without_adapters
from amodal_diffusion.models.schedulers import highest_noise_level
from amodal_diffusion.training.batches import Clips, Counted
from amodal_diffusion.training.checkpoints import Checkpoints, averaged_weights, export
from amodal_diffusion.training.dataset import TaskBatch, join
from amodal_diffusion.training.distributed import (
    Termination,
    holds_whole_network,
    tell_deepspeed,
    together,
    trained_parameters,
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
from amodal_diffusion.training.loop import TRY_CONTENT, TrainingLoop
from amodal_diffusion.training.loss import HiddenWeight, PixelLoss, one_step_loss, training_loss
from amodal_diffusion.training.networks import make_optimizer, prepare_unet
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.settings import OptimizerSettings, TrainingSettings
from amodal_diffusion.training.validation import Findings

Validate = Callable[[StageComponents, int], Findings | None]


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


class Trainer(TrainingLoop[Any]):
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

    settings: TrainingSettings

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
        super().__init__(settings, accelerator, clips=clips, workers=settings.data.workers, termination=termination)
        if settings.stage == "content_completion":
            self.next_step = TRY_CONTENT
        self.components = components
        self.validate = validate
        self.cache = cache
        unet = components.unet.train()
        self.parameters = prepare_unet(unet, settings, whole=holds_whole_network(accelerator))
        optimizer = settings.optimizer
        tell_deepspeed(accelerator, batch_size=settings.batch_size, max_grad_norm=optimizer.max_grad_norm)
        self.network, self.optimizer = accelerator.prepare(unet, make_optimizer(self.parameters, optimizer))
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

    def export(self) -> None:
        """Write the model, with the EMA of its weights, if any; all processes must call this together.

        Raises:
            InputError: in every process, if it cannot be written.
        """
        with averaged_weights(self.components.unet, self.ema):
            components = replace(self.components, unet=whole_network(without_adapters(self.components.unet)))
            model = self.settings.output / "model"
            together(lambda: export(components, model) if self.accelerator.is_main_process else None)

    def _rate(self) -> float:
        return learning_rate(self.settings.optimizer, self.progress.step, steps=self.settings.steps)

    @property
    def _max_grad_norm(self) -> float:
        return self.settings.optimizer.max_grad_norm

    def _stepped(self) -> None:
        if self.ema is not None:  # also after a skipped step, because the EMA counts steps itself
            self.ema.step(self.parameters)

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
            self.network,
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
        return one_step_loss(self.network, latents, sigma=sigma, generators=generators, pixels=self._pixels())

    def _pixels(self) -> PixelLoss | None:
        settings = self.settings
        if settings.pixel_weight == 0:
            return None

        def decode(latents: Tensor) -> Tensor:
            with self.accelerator.autocast():
                return decode_latents(self.components.vae, latents, decode_chunk_size=settings.pixel_frames)

        return PixelLoss(decode, settings.pixel_weight, settings.pixel_frames)

    def _checked(self, *, last: bool) -> bool:
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
