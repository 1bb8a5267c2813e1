"""Load the clips of each batch: from pixels or from precomputed latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.data.scenes import Split
from amodal_diffusion.training.order import BatchCounts, ClipOrder
from amodal_diffusion.training.settings import DataSettings
from amodal_diffusion.training.tasks import TaskBatch, TrainingTask

T = TypeVar("T")


@dataclass(frozen=True)
class Counted(Generic[T]):
    """Clips with their counts, from which their randomness follows.

    Attributes:
        counts: running count of each clip.
        clips: what was loaded, clip by clip.
    """

    counts: list[int]
    clips: list[T]


class TaskClips(Dataset[TaskBatch]):
    """Clips as batches of one, prepared for a task.

    Args:
        samples: the clips.
        task: the stage.
    """

    def __init__(self, samples: Dataset[AmodalSample], task: TrainingTask) -> None:
        self.samples = samples
        self.task = task

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.samples)  # type: ignore[arg-type]  # torch's Dataset does not promise a length

    def __getitem__(self, index: int) -> TaskBatch:
        """One clip."""
        return self.task.prepare(self.samples[index])


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


def endless_batches(
    dataset: Dataset[T], order: ClipOrder, counts: BatchCounts, *, workers: int
) -> Iterator[Counted[T]]:
    """Batches of clips in order, without end.

    Args:
        dataset: of clips.
        order: which clip belongs to a count.
        counts: of each batch.
        workers: processes that load ahead.
    """
    loader = DataLoader(
        _InOrder(dataset, order),
        batch_sampler=counts,
        num_workers=workers,
        collate_fn=_collect,
        persistent_workers=workers > 0,
    )
    yield from loader


class _InOrder(Dataset[tuple[int, T]]):
    """A dataset that is asked by count instead of index."""

    def __init__(self, dataset: Dataset[T], order: ClipOrder) -> None:
        self.dataset = dataset
        self.order = order

    def __getitem__(self, count: int) -> tuple[int, T]:
        return count, self.dataset[self.order.clip_at(count)]


def _collect(entries: list[tuple[int, T]]) -> Counted[T]:
    return Counted([count for count, _ in entries], [clip for _, clip in entries])
