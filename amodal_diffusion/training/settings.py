"""The settings of a training run, as YAML and flags give them; the defaults are the paper's (section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from amodal_diffusion.models.checkpoint import SamplingDefaults
from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.training.network_settings import ModelSettings
from amodal_diffusion.types import InputError, Stage

Precision = Literal["no", "bf16", "fp16"]
Schedule = Literal["constant", "cosine"]
OptimizerName = Literal["adamw", "adamw8bit"]
Tracker = Literal["tensorboard", "wandb", "none"]
OnBadSample = Literal["stop", "skip"]


@dataclass(frozen=True)
class NoiseSettings:
    """The noise that training draws (docs/method.md, section 3).

    Attributes:
        sigma_log_mean: mean of ``ln sigma``.
        sigma_log_std: standard deviation of ``ln sigma``.
        condition_log_mean: mean of ``ln s``, the strength of the noise on the condition pixels.
        condition_log_std: standard deviation of ``ln s``.
    """

    sigma_log_mean: float = 0.7
    sigma_log_std: float = 1.6
    condition_log_mean: float = -3.0
    condition_log_std: float = 0.5


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW, its learning rate over the steps, and the moving average of the weights.

    Attributes:
        name: ``adamw``, or ``adamw8bit`` whose moments take a quarter of the memory (extra ``bitsandbytes``).
        learning_rate: at its peak.
        betas: of AdamW.
        weight_decay: of AdamW.
        epsilon: of AdamW.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        schedule: after that, ``constant``, or ``cosine`` down to 0 at the last step.
        max_grad_norm: gradients longer than this are scaled down to it.
        ema_decay: decay of the moving average of the weights, which is validated and exported; 0 is without.
    """

    name: OptimizerName = "adamw"
    learning_rate: float = 3e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    epsilon: float = 1e-8
    warmup_steps: int = 0
    schedule: Schedule = "constant"
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0


@dataclass(frozen=True)
class ValidationSettings:
    """The look at fixed clips of the validation split during training.

    Attributes:
        every: steps between two validations; 0 is without.
        clips: number of clips, shared out over the processes.
        pictures: clips shown in the picture.
    """

    every: int = 1000
    clips: int = 16
    pictures: int = 4


@dataclass(frozen=True)
class TrainingSettings:
    """All of a run.

    Attributes:
        stage: what is trained.
        output: folder of the run.
        steps: optimizer steps in all.
        batch_size: clips that a process takes at once.
        global_batch_size: clips of an optimizer step over all processes; the batches that each process takes before
            a step follow from it. None leaves them to ``gradient_accumulation_steps``.
        gradient_accumulation_steps: batches of a process before each optimizer step, without ``global_batch_size``.
        mixed_precision: ``no``, ``bf16`` or ``fp16``; the weights that are trained and the optimizer stay float32, and
            so does a VAE whose settings say ``force_upcast``.
        cpu: stay on the CPU where there is a GPU.
        conditioning_dropout: ``p`` of docs/method.md, section 3.
        pixel_weight: weight of the squared error of decoded frames beside that of the latents; 0 is without. A light
            autoencoder keeps it cheap.
        pixel_frames: frames of each clip, in a row, that are decoded for it.
        seed: of the weights, the order of the clips and all noise.
        resume: ``auto`` goes on from the newest checkpoint in ``output`` if there is one, ``none`` refuses a folder
            that holds any, another value is the checkpoint's folder.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: number of checkpoints that are kept.
        max_minutes: stop after this time with a checkpoint and an export; 0 is no limit.
        on_bad_sample: what a clip that cannot be read does: ``stop`` ends the run with its name, ``skip`` counts it and
            takes the next clip of the data in its place.
        max_bad_steps: stop after so many steps in a row whose loss is not finite; each is left out and noted.
        log_every: steps between two lines of the log.
        tracker: where figures go beside `log.jsonl`: ``tensorboard``, ``wandb`` (extra of that name) or ``none``.
        dry_run: print the resolved settings and a memory plan, and stop.
        model: the networks.
        data: the clips.
        noise: the noise levels.
        optimizer: the optimizer.
        validation: the look at fixed clips.
        sampling: default sampling settings of the exported checkpoint, used by the validation too.
    """

    stage: Stage = "amodal_segmentation"
    output: Path = Path("runs/amodal_segmentation")
    steps: int = 10_000
    batch_size: int = 1
    global_batch_size: int | None = None
    gradient_accumulation_steps: int = 1
    mixed_precision: Precision = "no"
    cpu: bool = False
    conditioning_dropout: float = 0.1
    pixel_weight: float = 0.0
    pixel_frames: int = 2
    seed: int = 0
    resume: str = "auto"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    max_minutes: float = 0.0
    on_bad_sample: OnBadSample = "stop"
    max_bad_steps: int = 10
    log_every: int = 10
    tracker: Tracker = "tensorboard"
    dry_run: bool = False
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)

    def __post_init__(self) -> None:
        """Check the numbers that would otherwise fail late.

        Raises:
            InputError: names the first that is out of range.
        """
        at_least_one = (
            "steps", "batch_size", "gradient_accumulation_steps", "checkpoint_every", "keep_checkpoints",
            "max_bad_steps", "log_every", "pixel_frames",
        )  # fmt: skip
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.data.zoom != self.sampling.zoom:
            raise InputError(
                f"data.zoom: expected sampling.zoom, {self.sampling.zoom}, so that the model sees the same in training "
                f"and in use; got {self.data.zoom}"
            )
        self._check_tracks()
        if self.pixel_weight < 0:
            raise InputError(f"pixel_weight: expected at least 0, got {self.pixel_weight}")
        if not 0.0 <= self.conditioning_dropout <= 1 / 3:
            raise InputError(f"conditioning_dropout: expected 0 to 1/3, got {self.conditioning_dropout}")
        if self.global_batch_size is not None and self.gradient_accumulation_steps != 1:
            raise InputError(
                "gradient_accumulation_steps: follows from global_batch_size, expected 1 (the default) beside it, got "
                f"{self.gradient_accumulation_steps}; leave out one of the two"
            )

    def batches_per_step(self, processes: int) -> int:
        """Batches that each process takes before an optimizer step.

        Args:
            processes: of the launch.

        Raises:
            InputError: if no whole number of them makes up ``global_batch_size``.
        """
        if self.global_batch_size is None:
            return self.gradient_accumulation_steps
        at_once = processes * self.batch_size
        if self.global_batch_size < 1 or self.global_batch_size % at_once:
            raise InputError(
                f"global_batch_size: expected a multiple of {at_once} clips, which {processes} processes x batch_size "
                f"{self.batch_size} take at once, got {self.global_batch_size}; change batch_size or the number of "
                "processes"
            )
        return self.global_batch_size // at_once

    def _check_tracks(self) -> None:
        """Check that an annotation file comes with what the stage and the validation need."""
        data = self.data
        if data.annotations is None:
            return
        if self.validation.every and data.validation_annotations is None:
            raise InputError(
                "data.validation_annotations: expected an annotation file of other clips than data.annotations, got "
                "none; name one, or give --validation.every 0"
            )
        needed = self.stage == "content_completion"
        if needed != (data.occluders.annotations is not None):
            expected = "a file of tracks to hide the objects behind" if needed else "none in stage 1"
            raise InputError(f"data.occluders.annotations: expected {expected}, got {data.occluders.annotations}")
