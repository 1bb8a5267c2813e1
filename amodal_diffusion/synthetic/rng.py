"""Random draws that give the same values on every machine and numpy version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
T = TypeVar("T")


class Rng:
    """Random generator that uses ``Generator.random`` alone.

    numpy keeps the stream of PCG64's uniform doubles fixed but may change its other distributions, so a frozen test set
    must not use those.

    Args:
        entropy: non-negative integers that name the stream, e.g. split, seed, attempt, purpose.
    """

    def __init__(self, *entropy: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))

    def uniform(self, low: float, high: float) -> float:
        """One value in ``[low, high)``."""
        return low + (high - low) * float(self._generator.random())

    def array(self, shape: int | tuple[int, ...], low: float, high: float) -> Float64:
        """Independent values in ``[low, high)``, float64 of the given shape."""
        return low + (high - low) * self._generator.random(shape)

    def integer(self, low: int, high: int) -> int:
        """One of ``low, ..., high``, both ends included."""
        return low + min(int(self._generator.random() * (high - low + 1)), high - low)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self._generator.random()) < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[self.integer(0, len(options) - 1)]

    def sign(self) -> float:
        """-1.0 or 1.0."""
        return -1.0 if self.chance(0.5) else 1.0

    def angle(self) -> float:
        """A direction in radians, ``[0, 2 pi)``."""
        return self.uniform(0.0, 2.0 * math.pi)
