"""Training images of S-AModal: a frame that shows a part of the object, points on that part, the amodal mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.sailvos import read_frame
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.models.s_amodal.config import SAModalSampling
from amodal_diffusion.models.s_amodal.prompts import select_points
from amodal_diffusion.models.sam import SamFrame
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.object_clips import object_clips
from amodal_diffusion.training.s_amodal.settings import SAModalTrainingSettings
from amodal_diffusion.types import UInt8Array


@dataclass(frozen=True)
class PromptBatch:
    """Images with points; images of a batch may differ in size.

    Attributes:
        pixels: as `SamFrame.apply` gives, float32 ``[B, 3, S, S]``.
        points: x and y in pixels of the square, float32 ``[B, 1, N, 2]``.
        amodal: amodal mask of each image, float32 ``[H, W]``, 0 or 1.
        geometry: where each image lies in the square.
    """

    pixels: Tensor
    points: Tensor
    amodal: tuple[Tensor, ...]
    geometry: tuple[SamFrame, ...]

    def to(self, device: torch.device | str) -> PromptBatch:
        """Move all tensors to a device."""
        amodal = tuple(mask.to(device) for mask in self.amodal)
        return PromptBatch(self.pixels.to(device), self.points.to(device), amodal, self.geometry)


def join(batches: list[PromptBatch]) -> PromptBatch:
    """Put the images of batches into one."""
    return PromptBatch(
        torch.cat([batch.pixels for batch in batches]),
        torch.cat([batch.points for batch in batches]),
        tuple(mask for batch in batches for mask in batch.amodal),
        tuple(frame for batch in batches for frame in batch.geometry),
    )


class PromptedImages(Dataset[PromptBatch]):
    """Frames of clips, drawn among those that show the object, with points drawn as in inference.

    Args:
        samples: clips with RGB, or with files, of which only the drawn frames are read.
        sampling: how the points are drawn.
        size: side of SAM's input.
        drawn: number of frames from each clip.
    """

    def __init__(self, samples: Clips[AmodalSample], sampling: SAModalSampling, *, size: int, drawn: int = 1) -> None:
        self.samples, self.sampling, self.size, self.drawn = samples, sampling, size, drawn

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.samples)

    def name(self, index: int) -> str:
        """Name of a clip, which is not read."""
        return self.samples.name(index)

    def __getitem__(self, index: int) -> PromptBatch:
        """Read one clip; frames and points are drawn with seed 0."""
        return self.draw(index, generator=torch.Generator().manual_seed(0))

    def draw(self, index: int, *, generator: torch.Generator) -> PromptBatch:
        """Read one clip, and draw frames (with repeats if fewer show the object) and points.

        Raises:
            InputError: if a frame cannot be read, or none shows the object.
        """
        sample = self.samples[index]
        shown = np.flatnonzero(sample.modal.any(axis=(1, 2)))
        if not len(shown):
            raise InputError(f"{sample.name}: no frame shows the object, so there is no point to ask with")
        order = torch.randperm(len(shown), generator=generator).numpy()
        frames = shown[np.resize(order, self.drawn)]
        height, width = sample.modal.shape[1:]
        geometry = SamFrame((height, width), self.size)
        points = [select_points(sample.modal[frame], self.sampling, generator=generator) for frame in frames]
        return PromptBatch(
            geometry.apply(_read(sample, frames)),
            geometry.points(torch.stack(points))[:, None],
            tuple(torch.from_numpy(sample.amodal[frame].astype(np.float32)) for frame in frames),
            (geometry,) * self.drawn,
        )


def _read(sample: AmodalSample, frames: npt.NDArray[np.intp]) -> UInt8Array:
    """Frames of a clip, uint8 ``[N, H, W, 3]``."""
    if sample.rgb is not None:
        return np.asarray(sample.rgb[frames])
    if not sample.files:
        raise InputError(f"{sample.name}: S-AModal needs rgb, got a clip without RGB and files")
    height, width = sample.modal.shape[1:]
    return np.stack([read_frame(sample.files[frame], (height, width)) for frame in frames])


def training_images(settings: SAModalTrainingSettings) -> PromptedImages:
    """The images to train on; of a track only the drawn frames are read.

    Raises:
        InputError: if a file cannot be used.
    """
    data, size = settings.data, settings.networks.sam.image_size
    samples = object_clips(data, with_rgb=True, read_tracks=False)
    return PromptedImages(samples, settings.sampling, size=size, drawn=data.drawn)
