"""Means over the frames of all tracks, with a standard error that takes tracks as the independent draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """What one track adds to a mean over frames.

    Attributes:
        total: sum of the frames' values.
        count: number of frames that have a value.
    """

    total: float = 0.0
    count: int = 0


@dataclass(frozen=True)
class PooledMean:
    """A mean over the frames of all tracks.

    Attributes:
        value: the mean; NaN where no frame has a value.
        standard_error: over tracks; NaN with fewer than two tracks that have a value.
        track_mean: mean over tracks of each track's own mean; NaN where no frame has a value.
        frames: number of frames pooled.
        tracks: number of tracks that have a value.
    """

    value: float
    standard_error: float
    track_mean: float
    frames: int
    tracks: int


def pooled_mean(tallies: Sequence[Tally]) -> PooledMean:
    """Pool the frames of all tracks.

    The standard error is that of a ratio of sums over clusters: frames of one track resemble each other, so
    counting them as independent would understate it.

    Args:
        tallies: one a track; tracks without a value count as nothing.
    """
    kept = [tally for tally in tallies if tally.count]
    if not kept:
        return PooledMean(math.nan, math.nan, math.nan, 0, 0)
    frames = sum(tally.count for tally in kept)
    value = sum(tally.total for tally in kept) / frames
    track_mean = sum(tally.total / tally.count for tally in kept) / len(kept)
    if len(kept) < 2:
        return PooledMean(value, math.nan, track_mean, frames, len(kept))
    squares = sum((tally.total - value * tally.count) ** 2 for tally in kept)
    error = math.sqrt(squares * len(kept) / (len(kept) - 1)) / frames
    return PooledMean(value, error, track_mean, frames, len(kept))


def difference(first: Sequence[Tally], second: Sequence[Tally]) -> PooledMean:
    """Pool the frame-by-frame difference of two methods on the same tracks.

    The two are paired, so what makes a track hard for both does not widen the standard error.

    Args:
        first: one a track.
        second: one a track, in the same order; the counts equal ``first``'s.

    Raises:
        ValueError: if the two do not pool the same frames.
    """
    if [tally.count for tally in first] != [tally.count for tally in second]:
        raise ValueError(
            "first and second: expected the same frames of the same tracks, got different counts"
        )
    pairs = zip(first, second, strict=True)
    return pooled_mean([Tally(one.total - other.total, one.count) for one, other in pairs])
