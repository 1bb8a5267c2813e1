"""The only difference between the stages: which parts of a clip are modal, guide and target."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.data.corrupting import SceneCorruption
from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.occluders import OccludedTracks, OccluderBank, Occlusion
from amodal_diffusion.data.sailvos import ClipDepth, SailVosDataset
from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.frames.transforms import depth_to_unit, mask_to_unit, to_unit
from amodal_diffusion.propagation.mask_prior import show_other_frames
from amodal_diffusion.synthetic import Split
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.settings import DataSettings
from amodal_diffusion.types import InputError, Stage


@dataclass(frozen=True)
class TaskBatch:
    """Clips as the networks take them: modal + guide -> amodal (docs/method.md, section 1).

    Attributes:
        modal: what is visible, float32 ``[B, F, 1 or 3, H, W]`` in [-1, 1].
        guide: the second condition, as ``modal``; zero for clips without one.
        amodal: the target, as ``modal``.
        guide_present: bool ``[B]``, which clips have a guide.
        occlusions: how each clip was hidden, where occluders were put before its object; else empty.
    """

    modal: Tensor
    guide: Tensor
    amodal: Tensor
    guide_present: Tensor
    occlusions: tuple[Occlusion, ...] = ()

    def to(self, device: torch.device | str) -> TaskBatch:
        """Move all tensors to a device."""
        return replace(
            self,
            modal=self.modal.to(device),
            guide=self.guide.to(device),
            amodal=self.amodal.to(device),
            guide_present=self.guide_present.to(device),
        )


class TrainingTask(Protocol):
    """What a stage makes of a clip.

    Attributes:
        stage: its name.
        needs_rgb: whether clips must come with RGB.
        other_frames: whether close-ups must come with what other frames show of the object.
    """

    stage: Stage
    needs_rgb: bool
    other_frames: bool

    def prepare(self, sample: AmodalSample) -> TaskBatch:
        """Turn one clip into a batch of one.

        Raises:
            InputError: if the clip lacks a part that the stage needs.
        """
        ...


class AmodalSegmentationTask:
    """Stage 1: modal mask + depth -> amodal mask; clips without depth have no guide.

    Args:
        other_frames: whether the modal mask has in grey what other frames show of the object; this takes RGB. In a
            sample that does not have it already, the object is followed in what the model sees.

    Attributes:
        needs_rgb: see `TrainingTask`.
        other_frames: as given.
    """

    stage: Stage = "amodal_segmentation"

    def __init__(self, *, other_frames: bool = False) -> None:
        self.needs_rgb = self.other_frames = other_frames

    def prepare(self, sample: AmodalSample) -> TaskBatch:
        """Turn one clip into a batch of one."""
        modal = self._modal(sample)[None]  # [1, F, 1, H, W]
        guide = torch.zeros_like(modal) if sample.depth is None else depth_to_unit(sample.depth)[None]
        return TaskBatch(
            modal=modal,
            guide=guide,
            amodal=mask_to_unit(sample.amodal)[None],
            guide_present=torch.tensor([sample.depth is not None]),
        )

    def _modal(self, sample: AmodalSample) -> Tensor:
        if not self.other_frames:
            return mask_to_unit(sample.modal)
        if sample.seen is not None:
            return torch.from_numpy(sample.seen)[:, None]
        if sample.rgb is None:
            raise InputError(f"{sample.name}: what other frames show is found by RGB, got a clip without; load it too")
        return torch.from_numpy(show_other_frames(sample.rgb, sample.modal, sample.depth))[:, None]


class ContentCompletionTask:
    """Stage 2: modal RGB on white + amodal mask -> RGB of the whole object on white."""

    stage: Stage = "content_completion"
    needs_rgb = True
    other_frames = False

    def prepare(self, sample: AmodalSample) -> TaskBatch:
        """Turn one clip into a batch of one."""
        if sample.rgb is None or sample.whole_rgb is None:
            raise InputError(
                f"{sample.name}: content completion needs rgb and whole_rgb, got a clip without; load it with RGB"
            )
        visible = cut_out_on_white(sample.rgb, sample.modal) if sample.modal_rgb is None else sample.modal_rgb
        return TaskBatch(
            modal=to_unit(visible)[None],  # [1, F, 3, H, W]
            guide=mask_to_unit(sample.amodal)[None],
            amodal=to_unit(sample.whole_rgb)[None],
            guide_present=torch.tensor([True]),
        )


def task_of(stage: Stage, *, other_frames: bool = False) -> TrainingTask:
    """The task of a stage; ``other_frames`` is of :class:`AmodalSegmentationTask`."""
    if stage == "amodal_segmentation":
        return AmodalSegmentationTask(other_frames=other_frames)
    return ContentCompletionTask()


def join(batches: Sequence[TaskBatch]) -> TaskBatch:
    """Join batches of clips of one size."""
    return TaskBatch(
        modal=torch.cat([batch.modal for batch in batches]),
        guide=torch.cat([batch.guide for batch in batches]),
        amodal=torch.cat([batch.amodal for batch in batches]),
        guide_present=torch.cat([batch.guide_present for batch in batches]),
        occlusions=tuple(itertools.chain.from_iterable(batch.occlusions for batch in batches)),
    )


class TaskClips(Dataset[TaskBatch]):
    """Clips as batches of one, prepared for a task.

    Args:
        samples: the clips.
        task: the stage.
    """

    def __init__(self, samples: Clips[AmodalSample], task: TrainingTask) -> None:
        self.samples = samples
        self.task = task

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.samples)

    def __getitem__(self, index: int) -> TaskBatch:
        """One clip."""
        return self.task.prepare(self.samples[index])

    def draw(self, index: int, *, generator: torch.Generator) -> TaskBatch:
        """One clip; where occluders are put before its object, they are drawn from the generator."""
        if not isinstance(self.samples, OccludedTracks):
            return self[index]
        drawn = self.samples.draw(index, generator=generator)
        return replace(self.task.prepare(drawn.sample), occlusions=(drawn.occlusion,))

    def name(self, index: int) -> str:
        """The sample's name, without reading it."""
        return self.samples.name(index)


def training_samples(
    settings: DataSettings, task: TrainingTask, *, depth: ClipDepth | None = None
) -> Clips[AmodalSample]:
    """What a run trains on: the tracks of its annotation file, or scenes of the training split.

    Args:
        settings: name the data.
        task: the stage.
        depth: of the tracks, which have none of their own.

    Raises:
        InputError: if a file cannot be used.
    """
    if settings.annotations is None:
        return scenes(settings, task, split="train", length=settings.clips)
    return tracks(settings, task, settings.annotations, settings.images, depth=depth)


def validation_samples(
    settings: DataSettings,
    task: TrainingTask,
    *,
    length: int,
    depth: ClipDepth | None = None,
    depthless: bool = False,
) -> Clips[AmodalSample]:
    """What a run's validation looks at: tracks of its annotation file, or the first scenes.

    Args:
        settings: name the data.
        task: the stage.
        length: at most so many.
        depth: of the tracks, which have none of their own.
        depthless: leave out the depth of the clips.

    Raises:
        InputError: if a file cannot be used.
    """
    if settings.validation_annotations is None:
        exact = replace(settings, seed=0, degraded_share=0.0, depthless_share=float(depthless))
        return scenes(exact, task, split="validation", length=length)
    annotations, images = settings.validation_annotations, settings.validation_images
    depth = None if depthless else depth
    return tracks(settings, task, annotations, images, limit=length, depth=depth)


def scenes(settings: DataSettings, task: TrainingTask, *, split: Split, length: int) -> SceneDataset:
    """The generated scenes of a split."""
    size = (settings.height, settings.width)
    height, width = size if settings.zoom is None else (settings.scene_height, settings.scene_width)
    return SceneDataset(
        split,
        length=length,
        frames=settings.frames,
        height=height,
        width=width,
        with_rgb=task.needs_rgb,
        seed=settings.seed,
        close_up=None if settings.zoom is None else (*size, settings.zoom),
        other_frames=task.other_frames,
        change=SceneCorruption(settings.degraded_share, settings.depthless_share),
    )


def tracks(
    settings: DataSettings,
    task: TrainingTask,
    annotations: Path,
    images: Path | None,
    *,
    limit: int | None = None,
    depth: ClipDepth | None = None,
) -> SailVosDataset | OccludedTracks:
    """The tracks of an annotation file, in stage 2 behind occluders.

    Args:
        settings: how they are looked at.
        task: the stage.
        annotations: the file.
        images: root of its frames; its own folder by default.
        limit: at most so many.
        depth: of the tracks, which have none of their own.

    Raises:
        InputError: if a file cannot be used.
    """
    dataset = SailVosDataset(
        annotations,
        images,
        frames=settings.frames,
        height=settings.height,
        width=settings.width,
        with_rgb=task.needs_rgb,
        zoom=settings.zoom,
        index_folder=settings.index_folder,
        limit=limit,
        depth=depth,
    )
    occluders = settings.occluders
    if occluders.annotations is None:
        return dataset
    index = TrackIndex(occluders.annotations, folder=settings.index_folder)
    return OccludedTracks(dataset, OccluderBank(index, occlusion=occluders.occlusion, tries=occluders.tries))
