"""Means over the frames of many tracks, with a standard error that knows that the frames of a track are alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """A mean over the frames of all tracks.

    Attributes:
        value: the mean over frames; NaN where none counts.
        standard_error: of `value`, with tracks (not frames) as the independent draws; NaN below two tracks.
        track_mean: mean over tracks of each track's own mean.
        frames: number of frames that count.
        tracks: number of tracks with such a frame.
    """

    value: float
    standard_error: float
    track_mean: float
    frames: int
    tracks: int


class FramePool:
    """Gathers the frames of one track after another in constant memory.

    The standard error is that of a ratio of two sums over clusters: the mean is ``sum(total) / sum(count)`` over
    tracks, its residuals are ``total - mean * count``. Their squares are ``count^2 (own mean - mean)^2``, so a running
    mean and spread of the tracks' own means, weighted by ``count^2``, is all that has to be kept.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tracks = 0
        self._frames = 0
        self._total = 0.0
        self._means = 0.0
        self._weight = 0.0
        self._centre = 0.0
        self._spread = 0.0

    def add(self, values: Values) -> None:
        """Add a track.

        Args:
            values: float64 ``[F]``, NaN where a frame does not count.
        """
        kept = values[~np.isnan(values)]
        if not len(kept):
            return
        mean, weight = float(kept.mean()), float(len(kept)) ** 2
        self._tracks += 1
        self._frames += len(kept)
        self._total += float(kept.sum())
        self._means += mean
        self._weight += weight
        step = mean - self._centre
        self._centre += step * weight / self._weight
        self._spread += weight * step * (mean - self._centre)

    def result(self) -> Pooled:
        """The mean so far."""
        if not self._tracks:
            return Pooled(math.nan, math.nan, math.nan, 0, 0)
        value = self._total / self._frames
        error = math.nan
        if self._tracks > 1:
            squares = self._spread + self._weight * (self._centre - value) ** 2
            error = math.sqrt(squares * self._tracks / (self._tracks - 1)) / self._frames
        return Pooled(value, error, self._means / self._tracks, self._frames, self._tracks)


def pool(tracks: Iterable[Values]) -> Pooled:
    """Mean over the counting frames of all tracks.

    Args:
        tracks: per track float64 ``[F]``, NaN where a frame does not count.
    """
    gathered = FramePool()
    for values in tracks:
        gathered.add(values)
    return gathered.result()


def mean_of(values: Values) -> float:
    """Mean of the frames that count, float64 ``[F]``; NaN where none does."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan
