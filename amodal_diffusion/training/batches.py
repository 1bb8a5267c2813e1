"""Batches of training clips in the order of `order.py`; clips that cannot be read are replaced."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.training.distributed import ignore_termination
from amodal_diffusion.training.order import BatchCounts, ClipOrder, MixedOrder, Order, Part, seeded_generator

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# This many unreadable clips in a row mean a missing folder or disk rather than single damaged files.
_TRIES = 16


class Clips(Protocol[T_co]):
    """A dataset that can name its clips without reading them."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def __getitem__(self, index: int, /) -> T_co:
        """Read one clip."""
        ...

    def name(self, index: int) -> str:
        """Name of a clip, for messages, by which a user can find it."""
        ...


@runtime_checkable
class RandomClips(Protocol[T_co]):
    """A dataset with random augmentation."""

    def draw(self, index: int, *, generator: torch.Generator) -> T_co:
        """Read one clip; the generator determines its augmentation."""
        ...


@runtime_checkable
class PreparedClips(Protocol):
    """A dataset that makes the clips of a batch faster at once than one by one."""

    def prepare(self, indices: Sequence[int]) -> None:
        """Make clips for the next read of each, if that gains anything."""
        ...


@runtime_checkable
class WeightedClips(Protocol):
    """Clips of one or more data sets, indexed one after the other."""

    @property
    def parts(self) -> Sequence[Part]:
        """The data sets in order."""
        ...


def order_of(dataset: Clips[Any], seed: int) -> Order:
    """Order of a run's clips: that of one data set, or of a mixture by its weights."""
    if isinstance(dataset, WeightedClips) and len(dataset.parts) > 1:
        return MixedOrder(dataset.parts, seed)
    return ClipOrder(len(dataset), seed)


@dataclass(frozen=True)
class BadClip:
    """A clip that could not be read.

    Attributes:
        name: name of the clip in its dataset.
        reason: error message, on one line.
        index: of the clip in its dataset.
    """

    name: str
    reason: str
    index: int


@dataclass(frozen=True)
class Counted(Generic[T]):
    """A batch of clips with their running counts, which seed their randomness.

    Attributes:
        counts: running count of each clip.
        names: name of each clip.
        clips: the loaded clips.
        bad: clips that could not be read; each was replaced by the next readable clip of its data set.
    """

    counts: list[int]
    names: list[str]
    clips: list[T]
    bad: list[BadClip]

    def pin_memory(self) -> Counted[T]:
        """The same batch in memory from which a GPU reads on its own; a `DataLoader` calls this."""
        return replace(self, clips=[clip.pin_memory() if isinstance(clip, _Pinned) else clip for clip in self.clips])


@runtime_checkable
class _Pinned(Protocol):
    def pin_memory(self) -> Any:  # noqa: ANN401 - one of its own class
        ...


def endless_batches(
    dataset: Clips[T], order: Order, counts: BatchCounts, *, workers: int, pin: bool = False
) -> Generator[Counted[T]]:
    """Yield batches of clips in training order, without end.

    Args:
        dataset: the clips.
        order: maps a running count to a clip.
        counts: running counts of each batch.
        workers: number of processes that prefetch clips.
        pin: copy the batches to pinned memory, from which a GPU reads while the host goes on.

    Raises:
        InputError: if too many consecutive clips cannot be read.
    """
    loader = DataLoader(
        _InOrder(dataset, order),
        batch_sampler=counts,
        num_workers=workers,
        collate_fn=_collect,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=ignore_termination,
        generator=torch.Generator(),  # the default draws from the global generator at each start, also on resumption
    )
    for batch in loader:
        if len(batch.clips) < len(batch.counts):
            raise InputError(
                f"data: none of {len(batch.bad)} clips can be read, the last of them {batch.bad[-1].name}: "
                f"{batch.bad[-1].reason}; check that the data is where it was"
            )
        yield batch


def reason_of(error: Exception, name: str) -> str:
    """Reason that a clip could not be read, on one line, without the clip's name at the beginning."""
    text = " ".join(str(error).split()).removeprefix(f"{name}: ")
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


@dataclass(frozen=True)
class _Read(Generic[T]):
    count: int
    name: str
    clip: T | None
    bad: list[BadClip]


class _InOrder(Dataset[_Read[T]]):
    """A dataset that is indexed by running count."""

    def __init__(self, dataset: Clips[T], order: Order) -> None:
        self.dataset = dataset
        self.order = order

    def __getitems__(self, counts: list[int]) -> list[_Read[T]]:
        if isinstance(self.dataset, PreparedClips):
            self.dataset.prepare([self.order.clip_at(count) for count in counts])
        return [self[count] for count in counts]

    def __getitem__(self, count: int) -> _Read[T]:
        first = self.order.clip_at(count)
        part = self.order.part_of(first)
        bad: list[BadClip] = []
        for place in range(min(_TRIES, len(part))):
            index = part[(first - part.start + place) % len(part)]
            name = self.dataset.name(index)
            try:
                return _Read(count, name, self._read(index, count), bad)
            except Exception as error:  # noqa: BLE001 - damaged files make decoders raise errors of any class
                bad.append(BadClip(name, reason_of(error, name), index))
        return _Read(count, bad[-1].name, None, bad)

    def _read(self, index: int, count: int) -> T:
        if not isinstance(self.dataset, RandomClips):
            return self.dataset[index]
        generator = seeded_generator("augmentation", self.order.seed, count)
        clip: T = self.dataset.draw(index, generator=generator)
        return clip


def _collect(entries: list[_Read[T]]) -> Counted[T]:
    return Counted(
        counts=[entry.count for entry in entries],
        names=[entry.name for entry in entries],
        clips=[entry.clip for entry in entries if entry.clip is not None],
        bad=[bad for entry in entries for bad in entry.bad],
    )
