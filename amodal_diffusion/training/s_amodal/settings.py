"""Settings of an S-AModal training run, from YAML and command-line options; the defaults are the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.s_amodal.config import SAModalConfig, SAModalSampling
from amodal_diffusion.training.object_clips import FileSettings
from amodal_diffusion.training.objective_trainer import LoopSettings
from amodal_diffusion.training.run_settings import RateSettings

Focal = Literal["pixel", "batch_mean"]


@dataclass(frozen=True)
class ImageSettings(FileSettings):
    """Training images: objects of a KINS or COCOA file, or frames drawn from tracks or generated scenes.

    Attributes:
        drawn: number of images drawn from a track or scene for a batch; only frames that show the object.
    """

    drawn: int = 1

    def __post_init__(self) -> None:
        """Check the number of drawn frames.

        Raises:
            InputError: if the sources contradict each other, or a number is below 1.
        """
        super().__post_init__()
        if self.drawn < 1:
            raise InputError(f"data.drawn: expected at least 1, got {self.drawn}")


@dataclass(frozen=True)
class MaskLossSettings:
    """Loss of the amodal masks, at the size of the images.

    Attributes:
        focal: ``pixel`` is the focal loss; ``batch_mean`` applies its factor to the batch's mean cross-entropy, as the
            released code does, and vanishes once that mean is small.
        focal_weight: beside the Dice loss, whose weight is 1.
        iou_weight: weight of the distance of the predicted IoU from the true one. The paper has none, so that the
            pretrained head stays as it is; a head without pretraining needs it (0.05 is SAMEO's).
    """

    focal: Focal = "pixel"
    focal_weight: float = 20.0
    iou_weight: float = 0.0


@dataclass(frozen=True)
class StepRateSettings(RateSettings):
    """Optimizer and learning rate, which may fall in steps.

    Attributes:
        decay_every: number of steps after which the rate falls by ``decay``; 0 leaves it. With ``epochs`` it follows
            from ``decay_epochs``.
        decay_epochs: number of epochs after which the rate falls, in runs that count epochs; 0 leaves it.
        decay: factor of each fall.
    """

    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 5e-4
    schedule: Literal["constant", "linear", "cosine", "halving"] = "constant"
    decay_every: int = 0
    decay_epochs: int = 10
    decay: float = 0.1

    def at(self, step: int, *, steps: int) -> float:
        """See `RateSettings`."""
        falls = step // self.decay_every if self.decay_every else 0
        return super().at(step, steps=steps) * self.decay**falls


def _loop() -> LoopSettings:
    return LoopSettings(output=Path("runs/s_amodal"))


@dataclass(frozen=True)
class SAModalTrainingSettings:
    """All settings of an S-AModal training run.

    Attributes:
        sam: folder or hub id of the pretrained SAM, such as ``facebook/sam-vit-base``, or folder of an exported SAMEO
            model, to begin with its SAM; None starts from random weights, which only a tiny network with
            ``networks.train_encoder`` learns anything from.
        base: folder of an exported S-AModal model to go on from.
        epochs: number of passes over the images, which sets ``loop.steps``; 0 leaves ``loop.steps`` as it is.
        dry_run: print the resolved settings, and exit.
        networks: shape of the networks, and which are trained.
        data: training images.
        loss: loss of the masks.
        rate: learning rate and optimizer.
        loop: steps, checkpoints, precision and log.
        sampling: how the exported checkpoint is sampled; training draws its points alike.
    """

    sam: str | None = None
    base: Path | None = None
    epochs: int = 0
    dry_run: bool = False
    networks: SAModalConfig = field(default_factory=SAModalConfig)
    data: ImageSettings = field(default_factory=ImageSettings)
    loss: MaskLossSettings = field(default_factory=MaskLossSettings)
    rate: StepRateSettings = field(default_factory=StepRateSettings)
    loop: LoopSettings = field(default_factory=_loop)
    sampling: SAModalSampling = field(default_factory=SAModalSampling)

    def with_epochs(self, images: int, processes: int) -> SAModalTrainingSettings:
        """The same run with ``loop.steps`` and ``rate.decay_every`` as ``epochs`` says.

        Args:
            images: number of entries of the training data.
            processes: number of processes of the launch.
        """
        if not self.epochs:
            return self
        per_step = self.loop.batch_size * self.loop.gradient_accumulation_steps * processes
        decay_every = math.ceil(self.rate.decay_epochs * images / per_step)
        loop = replace(self.loop, steps=math.ceil(self.epochs * images / per_step))
        return replace(self, loop=loop, rate=replace(self.rate, decay_every=decay_every))
