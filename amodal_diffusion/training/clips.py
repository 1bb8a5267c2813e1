"""The clips that a run trains on or looks at, prepared for its stage."""

from __future__ import annotations

from torch.utils.data import Dataset

from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.data.scenes import Split
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.settings import DataSettings
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

    def name(self, index: int) -> str:
        """The sample's name, without reading it."""
        return self.samples.name(index)


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
    )
