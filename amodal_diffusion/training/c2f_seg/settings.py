"""Settings of a C2F-Seg training run, from YAML and command-line options; the defaults are MOViD-A's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg.config import C2FSampling, C2FSegConfig, TransformerConfig
from amodal_diffusion.models.c2f_seg.decoding import MaskSchedule
from amodal_diffusion.training.object_clips import FileSettings
from amodal_diffusion.training.objective_trainer import LoopSettings
from amodal_diffusion.training.run_settings import RateSettings

Part = Literal["autoencoder", "segmentation"]
Reconstruction = Literal["mse", "l1", "l1_lpips_gan"]
LossOn = Literal["all", "masked"]
CoarseMask = Literal["teacher", "decoded"]


@dataclass(frozen=True)
class ClipSettings(FileSettings):
    """Training clips; generated scenes are cropped to the network's size.

    Attributes:
        frames: number of frames of a clip; a video model trains on whole attention windows.
    """

    frames: int = 24

    def __post_init__(self) -> None:
        """Check the number of frames.

        Raises:
            InputError: if the sources contradict each other, or images have more than one frame.
        """
        super().__post_init__()
        if self.amodal_images is not None and self.frames != 1:
            raise InputError(f"data.frames: expected 1 beside data.amodal_images, got {self.frames}")


@dataclass(frozen=True)
class AugmentationSettings:
    """Random changes of the modal mask that the networks see; the targets stay clean. Defaults: MOViD-A, Fishbowl.

    Attributes:
        blur: probability that a mask is blurred and cut at one half.
        morph: probability that it is dilated or eroded 1 to 4 times instead.
        dilate: probability of dilation rather than erosion.
        blur_after: probability that a dilation or erosion is followed by a blur.
    """

    blur: float = 0.1
    morph: float = 0.5
    dilate: float = 0.5
    blur_after: float = 0.1

    def __post_init__(self) -> None:
        """Check the probabilities.

        Raises:
            InputError: if one is out of range, or ``blur`` and ``morph`` exceed 1 together.
        """
        values = (self.blur, self.morph, self.dilate, self.blur_after)
        if not all(0 <= value <= 1 for value in values) or self.blur + self.morph > 1:
            raise InputError(
                f"augmentation: expected probabilities, and blur + morph at most 1, got blur {self.blur}, morph "
                f"{self.morph}, dilate {self.dilate}, blur_after {self.blur_after}"
            )


@dataclass(frozen=True)
class AutoencoderLossSettings:
    """Losses of the mask autoencoder.

    Attributes:
        reconstruction: ``l1_lpips_gan`` is the released code's; ``mse`` suits small networks, where ``l1`` alone
            begins slowly.
        lpips: safetensors file of LPIPS, see :class:`~amodal_diffusion.models.perceptual.Lpips`; needed for
            ``l1_lpips_gan``.
        gan_weight: weight of the adversarial loss, before the adaptive factor.
        crop_scale: range of the enlargement of the crops.
        masks_per_clip: number of masks drawn from each clip; None takes all.
        reseed_step: step at which the codebook is drawn anew from the encoder's latents; 0 never does.
    """

    reconstruction: Reconstruction = "mse"
    lpips: Path | None = None
    gan_weight: float = 0.75
    crop_scale: tuple[float, float] = (1.2, 1.2)
    masks_per_clip: int | None = None
    reseed_step: int = 20


@dataclass(frozen=True)
class SegmentationLossSettings:
    """Losses of transformer and refinement.

    Attributes:
        mask_schedule: how the share of masked tokens is drawn, see :func:`mask_ratio`.
        loss_on: positions that the cross-entropy counts; all, as released, or only masked ones.
        label_smoothing: of the cross-entropy.
        coarse: coarse mask that the refinement trains on: tokens drawn at once beside known ones (``teacher``, as
            released) or decoded as in inference.
    """

    mask_schedule: MaskSchedule = "cosine_clamped"
    loss_on: LossOn = "all"
    label_smoothing: float = 0.1
    coarse: CoarseMask = "teacher"


def _video() -> C2FSegConfig:
    return C2FSegConfig(transformer=TransformerConfig(layers=8, window=(24, 4, 4)))


def _loop() -> LoopSettings:
    return LoopSettings(output=Path("runs/c2f_seg"), steps=75_000)


def _rate() -> RateSettings:
    return RateSettings(learning_rate=3e-4, warmup_steps=5000, schedule="linear")


@dataclass(frozen=True)
class C2FTrainingSettings:
    """All settings of a C2F-Seg training run.

    Attributes:
        part: ``autoencoder`` first, then ``segmentation``, which freezes it.
        autoencoder: folder of the exported autoencoder, for ``segmentation``.
        backbone: folder of a ResNet to start from, such as a download of ``microsoft/resnet-50``; None starts from
            random weights.
        base: folder of an exported C2F-Seg model to start from, in place of ``autoencoder`` and ``backbone``.
        dry_run: print the resolved settings, and exit.
        networks: shape of the networks.
        data: training clips.
        augmentation: random changes of the modal mask.
        autoencoder_loss: losses of the autoencoder.
        segmentation_loss: losses of transformer and refinement.
        rate: learning rate and optimizer.
        loop: steps, checkpoints, precision and log.
        sampling: how the exported checkpoint is sampled.
    """

    part: Part = "segmentation"
    autoencoder: Path | None = None
    backbone: Path | None = None
    base: Path | None = None
    dry_run: bool = False
    networks: C2FSegConfig = field(default_factory=_video)
    data: ClipSettings = field(default_factory=ClipSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    autoencoder_loss: AutoencoderLossSettings = field(default_factory=AutoencoderLossSettings)
    segmentation_loss: SegmentationLossSettings = field(default_factory=SegmentationLossSettings)
    rate: RateSettings = field(default_factory=_rate)
    loop: LoopSettings = field(default_factory=_loop)
    sampling: C2FSampling = field(default_factory=C2FSampling)

    def __post_init__(self) -> None:
        """Check that the parts fit each other.

        Raises:
            InputError: if a part is missing or contradicts another.
        """
        window = self.networks.window_frames
        if self.part == "segmentation" and self.data.frames % window:
            raise InputError(
                f"data.frames: expected a multiple of the attention window of {window} frames, got {self.data.frames}"
            )
        given = [name for name in ("autoencoder", "backbone") if getattr(self, name) is not None]
        if self.base is not None and given:
            raise InputError(f"base, {given[0]}: both are given; a run starts from one of them")
        adversarial = self.part == "autoencoder" and self.autoencoder_loss.reconstruction == "l1_lpips_gan"
        if adversarial and self.autoencoder_loss.lpips is None:
            raise InputError("autoencoder_loss.lpips: expected a safetensors file beside l1_lpips_gan, got none")
