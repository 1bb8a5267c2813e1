"""Training images of SAMEO: one object in one frame, from several data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.data.shards import ShardDataset
from amodal_diffusion.frames.boxes import tight_box
from amodal_diffusion.models.sameo.config import SameoConfig
from amodal_diffusion.models.sameo.network import frame_geometry, network_boxes, network_masks, prepare_images
from amodal_diffusion.pipelines.sameo import corners_of
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.object_clips import AmodalImages, training_scenes
from amodal_diffusion.training.sameo.objective import PromptBatch, join
from amodal_diffusion.training.sameo.settings import LossSize, SameoTrainingSettings, SourceSettings


class PromptImages(Dataset[PromptBatch]):
    """Frames of a clip with its object, each clip as a batch.

    Args:
        samples: clips with RGB.
        config: gives backend and size.
        loss_at: size of the target masks, see `SameoLossSettings`.
        drawn: number of frames from each clip.
    """

    def __init__(
        self, samples: Clips[AmodalSample], config: SameoConfig, *, loss_at: LossSize = "decoder", drawn: int = 1
    ) -> None:
        self.samples = samples
        self.config = config
        self.loss_at: LossSize = loss_at
        self.drawn = drawn

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.samples)

    def name(self, index: int) -> str:
        """Name of a clip, which is not read."""
        return self.samples.name(index)

    def __getitem__(self, index: int) -> PromptBatch:
        """The first frame that shows the object."""
        sample = self.samples[index]
        return prompt_image(sample, _visible(sample)[0], self.config, loss_at=self.loss_at)

    def draw(self, index: int, *, generator: torch.Generator) -> PromptBatch:
        """Random frames among those that show the object; with repeats if there are fewer."""
        sample = self.samples[index]
        frames = _visible(sample)
        order = torch.randperm(len(frames), generator=generator).tolist()
        chosen = [frames[order[place % len(order)]] for place in range(self.drawn)]
        return join([prompt_image(sample, frame, self.config, loss_at=self.loss_at) for frame in chosen])


class MixedImages(Dataset[PromptBatch]):
    """Several data sets, each drawn with a probability proportional to ``log(1 + size)``.

    The paper draws the data set of each batch; here that of each image is drawn, with the same shares.

    Args:
        parts: data sets, none of them empty.

    Raises:
        InputError: if there is none, or one is empty.
    """

    def __init__(self, parts: Sequence[PromptImages]) -> None:
        if not parts or not all(len(part) for part in parts):
            raise InputError(f"data: expected data sets with images, got sizes {[len(part) for part in parts]}")
        self.parts = parts
        self.shares = mixing_shares([len(part) for part in parts])

    def __len__(self) -> int:
        """Number of images of all data sets together."""
        return sum(map(len, self.parts))

    def name(self, index: int) -> str:
        """Name of an image, by its place in all data sets one after the other."""
        part, place = self._find(index)
        return part.name(place)

    def __getitem__(self, index: int) -> PromptBatch:
        """Image by its place in all data sets one after the other."""
        part, place = self._find(index)
        return part[place]

    def draw(self, index: int, *, generator: torch.Generator) -> PromptBatch:
        """Draw data set, image and frame; with one data set the image is the one of the index."""
        if len(self.parts) == 1:
            return self.parts[0].draw(index, generator=generator)
        part = self.parts[draw_part(self.shares, generator=generator)]
        return part.draw(int(torch.randint(len(part), (1,), generator=generator)), generator=generator)

    def _find(self, index: int) -> tuple[PromptImages, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(f"index: expected 0 to {len(self) - 1}")


def mixing_shares(sizes: Sequence[int]) -> list[float]:
    """Probability of each data set, proportional to ``log(1 + size)``."""
    weights = [math.log1p(size) for size in sizes]
    return [weight / sum(weights) for weight in weights]


def draw_part(shares: Sequence[float], *, generator: torch.Generator) -> int:
    """Draw the number of a data set."""
    return int(torch.multinomial(torch.tensor(shares, dtype=torch.float64), 1, generator=generator))


def prompt_image(
    sample: AmodalSample, frame: int, config: SameoConfig, *, loss_at: LossSize = "decoder"
) -> PromptBatch:
    """One frame and its object as the network sees them.

    Args:
        sample: a clip with RGB.
        frame: number of a frame that shows the object.
        config: gives backend and size.
        loss_at: size of the target mask.

    Raises:
        InputError: if the clip has no RGB or the frame does not show the object.
    """
    boxes = tight_box(sample.modal[frame]), tight_box(sample.amodal[frame])
    if sample.rgb is None or boxes[0] is None or boxes[1] is None:
        raise InputError(f"{sample.name}: frame {frame}: SAMEO needs rgb and a visible pixel, got a frame without")
    height, width = sample.amodal.shape[1:]
    geometry = frame_geometry(config, (height, width))
    corners = torch.tensor([[corners_of(boxes[0]), corners_of(boxes[1])]])
    amodal = torch.from_numpy(sample.amodal[frame : frame + 1]).float()
    if loss_at == "decoder":
        target = network_masks(amodal, geometry, config)
    else:
        target = (geometry.apply(amodal[:, None])[:, 0] >= 0.5).float()
    images = prepare_images(sample.rgb[frame : frame + 1], geometry)
    return PromptBatch(images, network_boxes(corners, geometry), target, (f"{sample.name}: {frame}",))


def _visible(sample: AmodalSample) -> list[int]:
    """Numbers of the frames that show the object.

    Raises:
        InputError: if there is none.
    """
    frames = np.flatnonzero(sample.modal.any(axis=(1, 2))).tolist()
    if not frames:
        raise InputError(f"{sample.name}: the object is visible in no frame")
    return list(map(int, frames))


def training_images(settings: SameoTrainingSettings) -> MixedImages:
    """The images of all data sets to train on.

    Raises:
        InputError: if a file cannot be used.
    """
    data, loss_at = settings.data, settings.loss.loss_at
    return MixedImages(
        [PromptImages(part, settings.networks, loss_at=loss_at, drawn=data.drawn) for part in _sources(data)]
    )


def _sources(data: SourceSettings) -> list[Clips[AmodalSample]]:
    found: list[Clips[AmodalSample]] = []
    for number, path in enumerate(data.amodal_images):
        root = data.amodal_image_roots[number] if data.amodal_image_roots else None
        found.append(AmodalImages(path, root, index_folder=data.index_folder))
    for number, path in enumerate(data.annotations):
        root = data.annotation_roots[number] if data.annotation_roots else None
        found.append(SailVosDataset(path, root, frames=data.frames, with_rgb=True, index_folder=data.index_folder))
    found += [ShardDataset(location, frames=data.frames, with_rgb=True) for location in data.shards]
    return found or [training_scenes(data, with_rgb=True)]
