"""Settings of a SAMEO training run, from YAML and command-line options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.sameo.config import SameoConfig, SameoSampling
from amodal_diffusion.models.sameo.network import Trained
from amodal_diffusion.training.object_clips import SceneSettings
from amodal_diffusion.training.objective_trainer import LoopSettings
from amodal_diffusion.training.run_settings import RateSettings

LossSize = Literal["decoder", "encoder"]


@dataclass(frozen=True)
class SourceSettings(SceneSettings):
    """Training images: any number of annotation files and shards, or generated scenes if there is none.

    Attributes:
        amodal_images: annotation files in the layout of KINS or COCOA, such as the Amodal-LVIS builder writes.
        amodal_image_roots: root of the images of each of ``amodal_images``; none takes each file's folder.
        annotations: annotation files with tracks, in the layout of SAIL-VOS sequences; random frames of a track are
            images.
        annotation_roots: root of the frames of each of ``annotations``; none takes each file's folder.
        shards: folders or URLs of shards; random frames of a sample are images.
        drawn: number of frames drawn from a scene or track for a batch; only frames that show the object.
    """

    amodal_images: tuple[Path, ...] = ()
    amodal_image_roots: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    annotation_roots: tuple[Path, ...] = ()
    shards: tuple[str, ...] = ()
    drawn: int = 1

    def __post_init__(self) -> None:
        """Check that every file has its root, and the number of drawn frames.

        Raises:
            InputError: if there are roots, but not as many as files, or a number is below 1.
        """
        super().__post_init__()
        pairs = (("amodal_images", "amodal_image_roots"), ("annotations", "annotation_roots"))
        for files, roots in pairs:
            given, wanted = len(getattr(self, roots)), len(getattr(self, files))
            if given and given != wanted:
                raise InputError(f"data.{roots}: expected one for each of the {wanted} data.{files}, got {given}")
        if self.drawn < 1:
            raise InputError(f"data.drawn: expected at least 1, got {self.drawn}")


@dataclass(frozen=True)
class SameoLossSettings:
    """Prompts and losses. The paper states the share of 50:50, gamma and the weight of the IoU; the rest is ours.

    Attributes:
        amodal_box_share: probability that the prompt is the box of the amodal mask, not that of the modal mask.
        focal_gamma: exponent of the focal loss.
        iou_weight: weight of the absolute error of the predicted IoU.
        dice_smoothing: added to numerator and denominator of the Dice loss.
        loss_at: size at which masks are compared: that of the ``decoder``'s output, or of the ``encoder``'s input.
    """

    amodal_box_share: float = 0.5
    focal_gamma: float = 2.0
    iou_weight: float = 0.05
    dice_smoothing: float = 1.0
    loss_at: LossSize = "decoder"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: if a value is out of range.
        """
        if not 0 <= self.amodal_box_share <= 1 or min(self.focal_gamma, self.iou_weight, self.dice_smoothing) < 0:
            raise InputError(
                "loss: expected amodal_box_share in [0, 1] and focal_gamma, iou_weight and dice_smoothing of at least "
                f"0, got {self}"
            )


def _rate() -> RateSettings:
    return RateSettings(
        learning_rate=1e-4, betas=(0.9, 0.999), epsilon=1e-8, weight_decay=1e-4, warmup_steps=1000, schedule="cosine"
    )


def _loop() -> LoopSettings:
    return LoopSettings(output=Path("runs/sameo"), steps=40_000, batch_size=32)


@dataclass(frozen=True)
class SameoTrainingSettings:
    """All settings of a run.

    Attributes:
        base: folder with pretrained weights of the backend, such as a download of ``facebook/sam-vit-base``, or
            EfficientSAM's converted to safetensors; None starts from random weights.
        start: folder of an exported SAMEO model to start from, in place of ``base`` and ``networks``.
        trained: ``decoder`` as published; ``all`` also trains the encoders, for a network without ``base``.
        embedding_cache: number of images whose embeddings are kept in main memory; useful only if the encoders are
            frozen and images come again.
        dry_run: print the resolved settings, and exit.
        networks: backend and shape.
        data: training images.
        loss: prompts and losses.
        rate: learning rate and optimizer.
        loop: steps, checkpoints, precision and log.
        sampling: how the exported checkpoint is sampled.
    """

    base: Path | None = None
    start: Path | None = None
    trained: Trained = "decoder"
    embedding_cache: int = 0
    dry_run: bool = False
    networks: SameoConfig = field(default_factory=SameoConfig)
    data: SourceSettings = field(default_factory=SourceSettings)
    loss: SameoLossSettings = field(default_factory=SameoLossSettings)
    rate: RateSettings = field(default_factory=_rate)
    loop: LoopSettings = field(default_factory=_loop)
    sampling: SameoSampling = field(default_factory=SameoSampling)

    def __post_init__(self) -> None:
        """Check that the parts fit each other.

        Raises:
            InputError: if two contradict each other.
        """
        if self.base is not None and self.start is not None:
            raise InputError("base, start: both are given; a run starts from one of them")
        if self.embedding_cache and self.trained == "all":
            raise InputError("embedding_cache: expected 0 with trained: all, whose embeddings change with each step")
