"""The clips that a run trains on or looks at, prepared for its stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from amodal_diffusion.data.degrading import Degrading
from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.occluders import OccludedTracks, OccluderBank
from amodal_diffusion.data.sailvos import ClipDepth, SailVosDataset
from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.data.scenes import Split
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.training.tasks import TaskBatch, TrainingTask


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
        change=Degrading(settings.degraded_share, settings.depthless_share),
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
