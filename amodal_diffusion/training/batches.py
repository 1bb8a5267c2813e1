"""Which clip is taken when, and the randomness of each: both follow from the seed and a running count of clips.

The count of clips taken since the start of the run is the only state. Resuming is therefore exact and reads
nothing again, and one process with a batch of two trains on the same clips and noise as two with a batch of one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from amodal_diffusion.training.distributed import ignore_termination
from amodal_diffusion.types import InputError

# What a random stream is for; streams of different purposes never share numbers.
Purpose = Literal["order", "training", "precompute", "global", "augmentation"]
_PURPOSES: tuple[Purpose, ...] = ("order", "training", "precompute", "global", "augmentation")


def stream_seed(purpose: Purpose, *numbers: int) -> int:
    """A seed that depends on nothing but the arguments, and differs wherever one of them does.

    Args:
        purpose: what the random numbers are for.
        numbers: such as the run's seed and a clip's count, at least 0 each.
    """
    entropy = np.random.SeedSequence((_PURPOSES.index(purpose), *numbers))
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seeded_generator(purpose: Purpose, seed: int, count: int, *, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on nothing but its arguments.

    Args:
        purpose: what the random numbers are for.
        seed: the training seed.
        count: of the clip or epoch.
        device: of the numbers.
    """
    return torch.Generator(device=device).manual_seed(stream_seed(purpose, seed, count))


class ClipOrder:
    """A new random order of all clips each epoch.

    Attributes:
        length: number of clips.
        seed: of the orders.
    """

    def __init__(self, length: int, seed: int) -> None:
        """Start with the first epoch."""
        self.length = length
        self.seed = seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def clip_at(self, count: int) -> int:
        """Index of the clip that is taken after ``count`` others."""
        epoch, place = divmod(count, self.length)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.length, generator=seeded_generator("order", self.seed, epoch))
        return int(self._order[place])


class BatchCounts(Sampler[list[int]]):
    """The counts of the clips of each batch of one process, batch after batch, without end.

    Args:
        first: clips that all processes together have taken before.
        batch_size: clips of a batch.
        process: number of this process, from 0.
        processes: number of processes; they take turns by whole batches.
    """

    def __init__(self, first: int, *, batch_size: int, process: int, processes: int) -> None:
        self.first = first
        self.batch_size = batch_size
        self.process = process
        self.processes = processes

    def __iter__(self) -> Iterator[list[int]]:
        """Count up."""
        start = self.first + self.process * self.batch_size
        while True:
            yield list(range(start, start + self.batch_size))
            start += self.processes * self.batch_size


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# So many damaged clips in a row are no odd file any more: a folder is missing, or a disk is.
_TRIES = 16


class Clips(Protocol[T_co]):
    """A dataset that knows the names of its clips without reading them."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def __getitem__(self, index: int, /) -> T_co:
        """Read one clip."""
        ...

    def name(self, index: int) -> str:
        """What a message calls the clip, so that a user finds it."""
        ...


@runtime_checkable
class RandomClips(Protocol[T_co]):
    """A dataset whose clips have a part that is drawn anew each time."""

    def draw(self, index: int, *, generator: torch.Generator) -> T_co:
        """Read one clip; all that is random in it comes from the generator."""
        ...


@dataclass(frozen=True)
class BadClip:
    """A clip that could not be read.

    Attributes:
        name: as the dataset calls it.
        reason: one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Counted(Generic[T]):
    """Clips with their counts, from which their randomness follows.

    Attributes:
        counts: running count of each clip.
        names: of each clip.
        clips: what was loaded, clip by clip.
        bad: clips that could not be read; the next readable one of the dataset took the place of each.
    """

    counts: list[int]
    names: list[str]
    clips: list[T]
    bad: list[BadClip]


def endless_batches(dataset: Clips[T], order: ClipOrder, counts: BatchCounts, *, workers: int) -> Generator[Counted[T]]:
    """Batches of clips in order, without end.

    Args:
        dataset: of clips.
        order: which clip belongs to a count.
        counts: of each batch.
        workers: processes that load ahead.

    Raises:
        InputError: if no clip can be read for a place in a batch, however many are tried.
    """
    loader = DataLoader(
        _InOrder(dataset, order),
        batch_sampler=counts,
        num_workers=workers,
        collate_fn=_collect,
        persistent_workers=workers > 0,
        worker_init_fn=ignore_termination,
        generator=torch.Generator(),  # else it draws from the global one as it starts, so once more after a resume
    )
    for batch in loader:
        if len(batch.clips) < len(batch.counts):
            raise InputError(
                f"data: none of {len(batch.bad)} clips can be read, the last of them {batch.bad[-1].name}: "
                f"{batch.bad[-1].reason}; check that the data is where it was"
            )
        yield batch


def reason_of(error: Exception, name: str) -> str:
    """Why a clip could not be read, in one line that does not begin with the clip's name."""
    text = " ".join(str(error).split()).removeprefix(f"{name}: ")
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


@dataclass(frozen=True)
class _Read(Generic[T]):
    count: int
    name: str
    clip: T | None
    bad: list[BadClip]


class _InOrder(Dataset[_Read[T]]):
    """A dataset that is asked by count instead of index."""

    def __init__(self, dataset: Clips[T], order: ClipOrder) -> None:
        self.dataset = dataset
        self.order = order

    def __getitem__(self, count: int) -> _Read[T]:
        first = self.order.clip_at(count)
        bad: list[BadClip] = []
        for place in range(min(_TRIES, len(self.dataset))):
            index = (first + place) % len(self.dataset)
            name = self.dataset.name(index)
            try:
                return _Read(count, name, self._read(index, count), bad)
            except Exception as error:  # noqa: BLE001 - damaged files make decoders raise errors of any class
                bad.append(BadClip(name, reason_of(error, name)))
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
