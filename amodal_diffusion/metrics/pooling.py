"""Means over the frames of many tracks, with standard errors that treat the frames of a track as one draw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Values = npt.NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Pooled:
    """A mean over the frames of all tracks.

    Attributes:
        value: the mean over frames; NaN where none counts.
        standard_error: standard error of `value`, with tracks, not frames, as independent draws; NaN below two tracks.
        track_mean: mean over tracks of each track's own mean.
        frames: number of frames that count; for a ratio of areas, the pixels of its denominator.
        tracks: number of tracks with a frame that counts.
    """

    value: float
    standard_error: float
    track_mean: float
    frames: int
    tracks: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of `value` by Student's t over tracks; NaN below two tracks."""
        if self.tracks < 2:
            return math.nan, math.nan
        reach = float(special.stdtrit(self.tracks - 1, (1 + CONFIDENCE) / 2)) * self.standard_error
        return self.value - reach, self.value + reach


class FramePool:
    """Pools the frames of one track after another in constant memory.

    The standard error is that of a ratio of two sums over clusters: the mean is ``sum(total) / sum(count)`` over
    tracks, its residuals are ``total - mean * count``. Their squares are ``count^2 (own mean - mean)^2``, so a running
    mean and spread of the tracks' own means, weighted by ``count^2``, is all that has to be kept.
    """

    def __init__(self) -> None:
        """Start with no tracks."""
        self._tracks = 0
        self._frames = 0
        self._total = 0.0
        self._means = 0.0
        self._weight = 0.0
        self._center = 0.0
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
        step = mean - self._center
        self._center += step * weight / self._weight
        self._spread += weight * step * (mean - self._center)

    def result(self) -> Pooled:
        """The mean so far."""
        if not self._tracks:
            return Pooled(math.nan, math.nan, math.nan, 0, 0)
        value = self._total / self._frames
        error = math.nan
        if self._tracks > 1:
            squares = self._spread + self._weight * (self._center - value) ** 2
            error = math.sqrt(squares * self._tracks / (self._tracks - 1)) / self._frames
        return Pooled(value, error, self._means / self._tracks, self._frames, self._tracks)


class RatioPool:
    """Pools a ratio of two sums over tracks, such as areas; a track may add to the first sum alone."""

    def __init__(self) -> None:
        """Start with no tracks."""
        self._tracks = 0
        self._ratios = 0.0
        self._part = self._whole = 0.0
        self._part_part = self._part_whole = self._whole_whole = 0.0

    def add(self, part: float, whole: float) -> None:
        """Add a track's sums, neither below 0; two zeros are no track."""
        if not part and not whole:
            return
        self._tracks += 1
        self._ratios += part / whole if whole else math.nan
        self._part += part
        self._whole += whole
        self._part_part += part * part
        self._part_whole += part * whole
        self._whole_whole += whole * whole

    def result(self) -> Pooled:
        """The ratio so far, with a standard error as `FramePool` has it."""
        if not self._whole:
            return Pooled(math.nan, math.nan, math.nan, 0, 0)
        value = self._part / self._whole
        error = math.nan
        if self._tracks > 1:
            squares = max(0.0, self._part_part - 2 * value * self._part_whole + value * value * self._whole_whole)
            error = math.sqrt(squares * self._tracks / (self._tracks - 1)) / self._whole
        return Pooled(value, error, self._ratios / self._tracks, round(self._whole), self._tracks)


def pool(tracks: Iterable[Values]) -> Pooled:
    """Mean over the counting frames of all tracks.

    Args:
        tracks: per track float64 ``[F]``, NaN where a frame does not count.
    """
    pooled = FramePool()
    for values in tracks:
        pooled.add(values)
    return pooled.result()


def mean_of(values: Values) -> float:
    """Mean of the frames that count, float64 ``[F]``; NaN where none does."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan
