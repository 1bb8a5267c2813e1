"""Training and validation clips, preprocessed as in inference; only this module treats the two stages differently."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.data.occluders import OccludedTracks, Occlusion
from amodal_diffusion.data.sailvos import read_frame
from amodal_diffusion.data.samples import AmodalSample, FrameFile
from amodal_diffusion.frames.crop import Geometry, crop_centers, frame_geometry
from amodal_diffusion.frames.transforms import Stretch, depth_to_unit
from amodal_diffusion.pipelines.preprocessing import (
    FrameInput,
    preprocess_content,
    preprocess_mask,
    preprocess_on_white,
    preprocess_segmentation,
)
from amodal_diffusion.training.batches import Clips, PreparedClips
from amodal_diffusion.training.data_files import resized_as_tracks
from amodal_diffusion.training.order import Part
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import FloatArray, UInt8Array


@dataclass(frozen=True)
class TaskBatch:
    """Input and target videos of the networks: modal + guide -> amodal (docs/method.md, section 1).

    Attributes:
        modal: modal video, float32 ``[B, F, 1 or 3, H, W]`` in [-1, 1].
        guide: the second condition, shape and range as ``modal``; zero for clips without one.
        amodal: the target, shape and range as ``modal``.
        guide_present: whether each clip has a guide, bool ``[B]``; always on the CPU, where it is read.
        occlusions: the occlusion of each clip, if occluders were pasted over its object; else empty.
        samples: with a teacher, its sample of each clip, scaled latents ``[F, 4, h, w]`` to learn in place of those of
            the amodal video, or None; else empty.
    """

    modal: Tensor
    guide: Tensor
    amodal: Tensor
    guide_present: Tensor
    occlusions: tuple[Occlusion, ...] = ()
    samples: tuple[Tensor | None, ...] = ()

    def to(self, device: torch.device | str) -> TaskBatch:
        """Move the videos to a device."""
        return self._with_videos(lambda video: to_device(video, device))

    def pin_memory(self) -> TaskBatch:
        """A copy in memory from which a GPU reads on its own; a `DataLoader` calls this."""
        return self._with_videos(Tensor.pin_memory)

    def _with_videos(self, change: Callable[[Tensor], Tensor]) -> TaskBatch:
        return replace(self, modal=change(self.modal), guide=change(self.guide), amodal=change(self.amodal))


def to_device(value: Tensor, device: torch.device | str) -> Tensor:
    """Move a tensor; the host does not wait for a copy from pinned memory to a GPU."""
    return value.to(device, non_blocking=torch.device(device).type == "cuda")


@dataclass(frozen=True)
class FrameView:
    """One frame on disk, and the part of it that the network sees.

    Attributes:
        file: where the picture is.
        geometry: maps the frame to the network's size.
        read: reads the frame, uint8 ``[H, W, 3]``.
    """

    file: FrameFile
    geometry: Geometry
    read: Callable[[], UInt8Array]


class ClipDepth(Protocol):
    """Estimates the depth of a clip's frames at the size of the network's input."""

    def __call__(self, views: Sequence[FrameView]) -> FloatArray:
        """Depth of any scale, nearer is larger, float32 ``[F, h, w]``."""
        ...


@dataclass(frozen=True)
class ClipPreprocessing:
    """Turns a clip into the inputs and the target of one stage.

    Attributes:
        stage: the stage that is trained.
        config: geometry and temporal mask prior; its height, width and window are those of training.
        depth: estimates the depth of clips that come without, in stage 1; None leaves them without.
    """

    stage: Stage
    config: SamplingConfig
    depth: ClipDepth | None = None

    @classmethod
    def of(cls, settings: TrainingSettings, depth: ClipDepth | None = None) -> ClipPreprocessing:
        """Preprocessing of the sampling settings, at the training size.

        Stretched frames of tracks are resized without antialiasing, as in the reference implementation.
        """
        data = settings.data
        config = replace(settings.sampling, height=data.height, width=data.width, num_frames=data.frames)
        if config.fit == "stretch" and resized_as_tracks(data):
            config = replace(config, resample="cv2")
        return cls(settings.stage, config, depth)

    @property
    def needs_rgb(self) -> bool:
        """Whether clips must come with RGB."""
        return self.stage == "content_completion" or self.config.beyond.temporal_prior

    def frames(self, sample: AmodalSample) -> list[FrameInput]:
        """Frames of a clip as input to the pipelines, without RGB in black, and with depth for stage 1 alone.

        Raises:
            InputError: if the clip lacks RGB that the stage needs, or an object to crop around.
        """
        if self.needs_rgb and sample.rgb is None:
            raise InputError(f"{sample.name}: {self.stage} needs rgb, got a clip without; load it with RGB")
        black = np.broadcast_to(np.uint8(0), (*sample.modal.shape[1:], 3))
        depth = sample.depth if self.stage == "amodal_segmentation" else None
        scaled = None if depth is None else depth_to_unit(depth)[:, 0].numpy()
        centers = crop_centers(sample.modal) if self.config.fit == "crop" else [None] * len(sample.modal)
        return [
            FrameInput(
                rgb=black if sample.rgb is None else sample.rgb[index],
                modal=sample.modal[index],
                depth=None if scaled is None else scaled[index],
                center=centers[index],
            )
            for index in range(len(sample.modal))
        ]

    def __call__(self, sample: AmodalSample) -> TaskBatch:
        """Preprocess one clip to a batch of size one.

        Raises:
            InputError: if the clip lacks a part that the stage needs.
        """
        frames = self.frames(sample)
        geometries = [frame.geometry(self.config) for frame in frames]
        if self.stage == "amodal_segmentation":
            modal, guide = preprocess_segmentation(frames, self.config)
            if guide is None and self.depth is not None and sample.files:
                guide = depth_to_unit(self.depth(self.frame_views(sample)))
            target = [preprocess_mask(mask, part) for mask, part in zip(sample.amodal, geometries, strict=True)]
        else:
            if sample.whole_rgb is None:
                raise InputError(f"{sample.name}: content completion needs the whole object's RGB, got a clip without")
            modal, guide = preprocess_content(frames, list(sample.amodal), self.config)
            whole = zip(sample.whole_rgb, sample.amodal, geometries, strict=True)
            target = [preprocess_on_white(rgb, mask, part) for rgb, mask, part in whole]
        return TaskBatch(
            modal=modal[None],
            guide=(torch.zeros_like(modal) if guide is None else guide)[None],
            amodal=torch.cat(target)[None],
            guide_present=torch.tensor([guide is not None]),
        )

    def frame_views(self, sample: AmodalSample) -> list[FrameView]:
        """The frames of a clip on disk, framed as the network sees them; nothing is read yet."""
        size = (sample.modal.shape[1], sample.modal.shape[2])
        centers = crop_centers(sample.modal) if self.config.fit == "crop" else [None] * len(sample.modal)
        return [
            FrameView(file, frame_geometry(self.config, size, center), partial(read_frame, file, size))
            for file, center in zip(_present(sample), centers, strict=True)
        ]

    def whole_frame_views(self, sample: AmodalSample) -> list[FrameView]:
        """The whole frames of a clip on disk, stretched to the network's size: stage 2 estimates depth on them."""
        size = (sample.modal.shape[1], sample.modal.shape[2])
        whole = Stretch(size, (self.config.height, self.config.width))
        return [FrameView(file, whole, partial(read_frame, file, size)) for file in _present(sample)]


def _present(sample: AmodalSample) -> tuple[FrameFile, ...]:
    """Where a clip's frames are.

    Raises:
        InputError: if a file is missing.
    """
    for file in sample.files:
        if isinstance(file, Path) and not file.is_file():
            raise InputError(f"{sample.name}: {file}: no such file, and none of the same name in another format")
    return sample.files


def join(batches: Sequence[TaskBatch]) -> TaskBatch:
    """Concatenate batches of clips of the same size."""
    return TaskBatch(
        modal=torch.cat([batch.modal for batch in batches]),
        guide=torch.cat([batch.guide for batch in batches]),
        amodal=torch.cat([batch.amodal for batch in batches]),
        guide_present=torch.cat([batch.guide_present for batch in batches]),
        occlusions=tuple(itertools.chain.from_iterable(batch.occlusions for batch in batches)),
        samples=tuple(itertools.chain.from_iterable(batch.samples for batch in batches)),
    )


class MixedSources(Dataset[AmodalSample]):
    """Several data sets, indexed one after the other; `MixedOrder` decides how often each is taken.

    Args:
        parts: weight and clips of each.
    """

    def __init__(self, parts: Sequence[tuple[float, Clips[AmodalSample]]]) -> None:
        self.parts = tuple(parts)
        self._starts = [0, *itertools.accumulate(len(clips) for _, clips in parts)]

    def __len__(self) -> int:
        """Number of clips of all data sets."""
        return self._starts[-1]

    def located(self, index: int) -> tuple[Clips[AmodalSample], int]:
        """The data set of a clip, and its index there.

        Raises:
            IndexError: if there is no such clip.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected 0 to {len(self) - 1}, got {index}")
        part = bisect.bisect_right(self._starts, index) - 1
        return self.parts[part][1], index - self._starts[part]

    def __getitem__(self, index: int) -> AmodalSample:
        """Read one clip."""
        clips, place = self.located(index)
        return clips[place]

    def name(self, index: int) -> str:
        """Name of a clip, which is not read."""
        clips, place = self.located(index)
        return clips.name(place)


ReadSample = Callable[[TaskBatch], Tensor | None]
"""Reads the teacher's sample of a clip, a batch of one; None if the clip keeps its true target."""


class TaskClips(Dataset[TaskBatch]):
    """Clips preprocessed for a stage, each as a batch of size one.

    Args:
        samples: the clips.
        preprocess: preprocessing of the stage.
        teach: reads the teacher's sample of a clip; None for runs without a teacher.
    """

    def __init__(
        self, samples: Clips[AmodalSample], preprocess: ClipPreprocessing, teach: ReadSample | None = None
    ) -> None:
        self.samples = samples
        self.preprocess = preprocess
        self._teach = teach

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.samples)

    def __getitem__(self, index: int) -> TaskBatch:
        """Read and preprocess one clip.

        Raises:
            InputError: if it cannot be read, or lacks its sample of the teacher.
        """
        clip = self.preprocess(self.samples[index])
        return clip if self._teach is None else replace(clip, samples=(self._teach(clip),))

    def read(self, index: int) -> AmodalSample:
        """Read one clip at full size; missing depth is estimated at the network's size and resized to the frames."""
        sample = self.samples[index]
        depth = self.preprocess.depth
        if depth is None or not sample.files or sample.depth is not None:
            return sample
        views = self.preprocess.whole_frame_views(sample)
        maps = torch.from_numpy(depth(views))[:, None]  # [F, 1, h, w]
        return replace(sample, depth=views[0].geometry.invert(maps, outside=0.0)[:, 0].numpy())

    def prepare(self, indices: Sequence[int]) -> None:
        """Make clips all at once where that is faster, see `PreparedClips`."""
        if isinstance(self.samples, PreparedClips):
            self.samples.prepare(indices)

    @property
    def parts(self) -> list[Part]:
        """The data sets of a mixture with their weights; one without."""
        if not isinstance(self.samples, MixedSources):
            return [Part(len(self.samples))]
        return [Part(len(clips), weight) for weight, clips in self.samples.parts]

    def located(self, index: int) -> tuple[Clips[AmodalSample], int]:
        """The data set of a clip, and its index there."""
        return self.samples.located(index) if isinstance(self.samples, MixedSources) else (self.samples, index)

    def draw(self, index: int, *, generator: torch.Generator) -> TaskBatch:
        """Read and preprocess one clip; the generator draws the occluders, if any are pasted over its object."""
        samples, place = self.located(index)
        if not isinstance(samples, OccludedTracks):
            return self[index]
        drawn = samples.draw(place, generator=generator)
        return replace(self.preprocess(drawn.sample), occlusions=(drawn.occlusion,))

    def name(self, index: int) -> str:
        """Name of a clip, which is not read."""
        return self.samples.name(index)
