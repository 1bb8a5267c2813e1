"""Which clip is taken when, and the randomness of each: both follow from the seed and a running count of clips.

The count of clips taken since the start of the run is the only state. Resuming is therefore exact and reads
nothing again, and one process with a batch of two trains on the same clips and noise as two with a batch of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Sampler

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
        seed: of the run.
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
