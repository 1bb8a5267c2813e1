"""Training clips of C2F-Seg: cropped as in inference, with a randomly changed modal mask."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.models.c2f_seg.config import C2FSegConfig
from amodal_diffusion.models.c2f_seg.network import pad_frames
from amodal_diffusion.pipelines.c2f_seg import crop_images, crop_masks, crops_around
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.c2f_seg.augmentation import augment_masks
from amodal_diffusion.training.c2f_seg.objectives import CropBatch
from amodal_diffusion.training.c2f_seg.settings import AugmentationSettings, C2FTrainingSettings
from amodal_diffusion.training.object_clips import object_clips


@dataclass(frozen=True)
class CropRule:
    """Where training crops are, and how they are changed.

    Attributes:
        networks: gives the size of the crops; in a video model all frames of a clip have one scale.
        scale: range of the side of a crop over that of the mask's box.
        around_amodal: crop around the amodal mask, for the autoencoder, which sees no other; otherwise around the modal
            mask, as in inference.
        frames: number of frames to draw from a clip; None takes all.
        length: clips are padded to a multiple of this many frames, so that a batch can be joined; by default the
            attention window.
        augmentation: random changes of the modal mask; None leaves it.
    """

    networks: C2FSegConfig
    scale: tuple[float, float]
    around_amodal: bool = False
    frames: int | None = None
    length: int | None = None
    augmentation: AugmentationSettings | None = None

    @classmethod
    def of(cls, settings: C2FTrainingSettings) -> CropRule:
        """The rule of the autoencoder or of the segmentation, whichever the settings train."""
        if settings.part == "autoencoder":
            losses = settings.autoencoder_loss
            frames = losses.masks_per_clip
            length = frames or settings.data.frames
            return cls(settings.networks, losses.crop_scale, around_amodal=True, frames=frames, length=length)
        scale = settings.sampling.crop_scale
        return cls(settings.networks, (scale, scale), length=settings.data.frames, augmentation=settings.augmentation)


class CroppedClips(Dataset[CropBatch]):
    """Clips as crops, each as a batch of size one.

    Args:
        samples: clips with RGB.
        rule: where the crops are.
    """

    def __init__(self, samples: Clips[AmodalSample], rule: CropRule) -> None:
        self.samples = samples
        self.rule = rule

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.samples)

    def name(self, index: int) -> str:
        """Name of a clip, which is not read."""
        return self.samples.name(index)

    def __getitem__(self, index: int) -> CropBatch:
        """Read and crop one clip, at the middle of the range of scales, without random changes."""
        middle = sum(self.rule.scale) / 2
        return crop_clip(self.samples[index], self.rule, [middle])

    def draw(self, index: int, *, generator: torch.Generator) -> CropBatch:
        """Read and crop one clip; the generator draws the scale of each frame and the changes of its modal mask."""
        sample = self.samples[index]
        if self.rule.frames is not None:
            sample = _drawn_frames(sample, self.rule.frames, generator)
        low, high = self.rule.scale
        drawn = low + (high - low) * torch.rand(len(sample.modal), generator=generator, dtype=torch.float64)
        batch = crop_clip(sample, self.rule, drawn.tolist())
        if self.rule.augmentation is None:
            return batch
        seen = augment_masks(batch.modal[0], self.rule.augmentation, generator=generator)[None]
        return CropBatch(batch.images, batch.modal, seen, batch.amodal)


def crop_clip(sample: AmodalSample, rule: CropRule, scales: list[float]) -> CropBatch:
    """Crop one clip; where the crops are depends on the amodal mask only if the rule says so.

    A clip shorter than ``rule.length`` is padded with its last frame. The autoencoder's clips have no images.

    Args:
        sample: a clip with RGB.
        rule: where the crops are; its range of scales is not used.
        scales: side of a crop over that of the mask's box, of all frames or of each.

    Raises:
        InputError: if the clip has no RGB, or the mask to crop around is empty in every frame.
    """
    around = sample.amodal if rule.around_amodal else sample.modal
    crops = crops_around(around, rule.networks, crop_scale=scales if len(scales) > 1 else scales[0])
    modal, amodal = crop_masks(sample.modal, crops)[None], crop_masks(sample.amodal, crops)[None]
    if rule.around_amodal:
        images = modal.new_zeros(*modal.shape[:2], 3, 1, 1)
    elif sample.rgb is None:
        raise InputError(f"{sample.name}: C2F-Seg needs rgb, got a clip without; load it with RGB")
    else:
        images = crop_images(sample.rgb, crops)[None]
    length = rule.length or rule.networks.window_frames
    images, modal, amodal = (pad_frames(part, length) for part in (images, modal, amodal))
    return CropBatch(images, modal, modal, amodal)


def _drawn_frames(sample: AmodalSample, count: int, generator: torch.Generator) -> AmodalSample:
    """Masks of ``count`` frames with a part of the object inside the picture; repeats frames if there are fewer."""
    there = torch.from_numpy(sample.amodal.any(axis=(1, 2)))
    weights = there.double() if bool(there.any()) else torch.ones(len(there), dtype=torch.float64)
    repeated = int(weights.sum()) < count
    drawn = torch.multinomial(weights, count, replacement=repeated, generator=generator).numpy()
    return replace(sample, modal=sample.modal[drawn], amodal=sample.amodal[drawn], depth=None, rgb=None, whole_rgb=None)


def training_clips(settings: C2FTrainingSettings) -> CroppedClips:
    """The clips that a part of the method trains on; the autoencoder needs no colors.

    Raises:
        InputError: if a file cannot be used.
    """
    samples = object_clips(settings.data, with_rgb=settings.part == "segmentation")
    return CroppedClips(samples, CropRule.of(settings))
