"""Order and randomness of the training clips, as pure functions of the seed and a running count of clips.

The number of clips taken since the start of the run is the only state. Resumption is therefore exact and reads no clip
twice. One process with a batch size of two trains on the same clips and noise as two processes with a batch size of
one.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from amodal_diffusion.basics import InputError

# Purpose of a random stream; streams of different purposes have different seeds.
Purpose = Literal["order", "training", "precompute", "global", "augmentation"]
_PURPOSES: tuple[Purpose, ...] = ("order", "training", "precompute", "global", "augmentation")


def stream_seed(purpose: Purpose, *numbers: int) -> int:
    """Random seed that is determined by the arguments alone.

    Args:
        purpose: purpose of the random numbers.
        numbers: integers of at least 0, such as the run's seed and a clip's count.
    """
    entropy = np.random.SeedSequence((_PURPOSES.index(purpose), *numbers))
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seeded_generator(purpose: Purpose, seed: int, count: int, *, device: torch.device | str = "cpu") -> torch.Generator:
    """Random generator that is determined by the arguments alone.

    Args:
        purpose: purpose of the random numbers.
        seed: seed of the training run.
        count: count of the clip or epoch.
        device: device of the generator.
    """
    return torch.Generator(device=device).manual_seed(stream_seed(purpose, seed, count))


class Order(Protocol):
    """Maps running counts to clips.

    Attributes:
        seed: random seed of the run.
    """

    seed: int

    def clip_at(self, count: int) -> int:
        """Index of the clip with running count ``count``."""

    def part_of(self, index: int) -> range:
        """Indices of the data set that a clip belongs to, in which the next clip replaces an unreadable one."""


class ClipOrder:
    """Random permutation of all clips, a new one for each epoch.

    Args:
        length: number of clips.
        seed: random seed of the run.
        stream: numbers that give each data set of a mixture permutations of its own.
    """

    def __init__(self, length: int, seed: int, *stream: int) -> None:
        self.length = length
        self.seed = seed
        self.stream = stream
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def clip_at(self, count: int) -> int:
        """Index of the clip with running count ``count``."""
        epoch, place = divmod(count, self.length)
        if epoch != self._epoch:
            self._epoch = epoch
            generator = torch.Generator().manual_seed(stream_seed("order", self.seed, epoch, *self.stream))
            self._order = torch.randperm(self.length, generator=generator)
        return int(self._order[place])

    def part_of(self, index: int) -> range:  # noqa: ARG002 - of the protocol
        """Indices of all clips: they are one data set."""
        return range(self.length)


@dataclass(frozen=True)
class Part:
    """A data set of a mixture.

    Attributes:
        length: number of its clips.
        weight: its share of the counts is this over the sum of all weights.
    """

    length: int
    weight: float = 1.0


_LONGEST_PERIOD = 1_000_000


class MixedOrder:
    """Clips of several data sets, each with permutations and epochs of its own.

    The data set of a count follows from the weights alone. Each count goes to the data set with the largest remainder:
    the one whose number of clips so far is furthest below its share; of equal ones, to the first. With weights 3 and 1
    the counts are 0 0 1 0, again and again. Indices count through all data sets, one after the other.

    Args:
        parts: data sets in order.
        seed: random seed of the run.

    Raises:
        InputError: if the weights have no common period of at most 1,000,000 counts.
    """

    def __init__(self, parts: Sequence[Part], seed: int) -> None:
        self.seed = seed
        lengths = [part.length for part in parts]
        self._starts = [0, *itertools.accumulate(lengths)]
        self._orders = [ClipOrder(length, seed, number) for number, length in enumerate(lengths)]
        self._weights = whole_weights([part.weight for part in parts])
        self._parts, self._places = _schedule(self._weights)

    def clip_at(self, count: int) -> int:
        """Index of the clip with running count ``count``."""
        period, place = divmod(count, len(self._parts))
        part = int(self._parts[place])
        return self._starts[part] + self._orders[part].clip_at(period * self._weights[part] + int(self._places[place]))

    def part_of(self, index: int) -> range:
        """Indices of the data set that a clip belongs to."""
        part = bisect.bisect_right(self._starts, index) - 1
        return range(self._starts[part], self._starts[part + 1])


def whole_weights(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the proportion of decimal weights, such as ``[3, 1]`` for 0.75 and 0.25.

    Raises:
        InputError: if they sum to more than 1,000,000.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    numbers = [int(weight * scale) for weight in exact]
    common = math.gcd(*numbers)
    numbers = [number // common for number in numbers]
    if sum(numbers) > _LONGEST_PERIOD:
        raise InputError(
            "data.mixture: expected weights in the proportion of small whole numbers, got "
            f"{', '.join(map(str, weights))}; round them to three digits"
        )
    return numbers


def _schedule(weights: Sequence[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Data set of each count of a period, and its number of earlier counts in the period; both int32 ``[sum]``."""
    total = sum(weights)
    taken = [0] * len(weights)
    parts, places = np.empty(total, np.int32), np.empty(total, np.int32)
    for count in range(total):
        remainders = [weight * (count + 1) - total * number for weight, number in zip(weights, taken, strict=True)]
        part = remainders.index(max(remainders))
        parts[count], places[count] = part, taken[part]
        taken[part] += 1
    return parts, places


class BatchCounts(Sampler[list[int]]):
    """Endless sampler of the running counts of the clips in each batch of one process.

    Args:
        first: number of clips that all processes together have already taken.
        batch_size: number of clips per batch.
        process: index of this process, from 0.
        processes: number of processes; batches are assigned to them in turn.
    """

    def __init__(self, first: int, *, batch_size: int, process: int, processes: int) -> None:
        self.first = first
        self.batch_size = batch_size
        self.process = process
        self.processes = processes

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the counts of the clips of each batch."""
        start = self.first + self.process * self.batch_size
        while True:
            yield list(range(start, start + self.batch_size))
            start += self.processes * self.batch_size
