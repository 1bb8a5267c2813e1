"""A benchmark whose tracks without depth get it from a depth network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from amodal_diffusion.evaluation.benchmarks.protocol import Benchmark, BenchmarkTrack, BoxTrack
from amodal_diffusion.models.depth import DepthEstimator
from amodal_diffusion.types import FloatArray


@dataclass(frozen=True)
class WithEstimatedDepth:
    """A benchmark with estimated depth, see `Benchmark`.

    Attributes:
        benchmark: the tracks; depth that they have is left as it is.
        estimator: estimates the others' frame by frame, at the frames' size.
    """

    benchmark: Benchmark
    estimator: DepthEstimator = field(repr=False)

    @property
    def name(self) -> str:
        """See `Benchmark`."""
        return self.benchmark.name

    @property
    def inputs(self) -> Mapping[str, Path]:
        """See `Benchmark`."""
        return self.benchmark.inputs

    def __len__(self) -> int:
        """See `Benchmark`."""
        return len(self.benchmark)

    def identity(self, index: int) -> str:
        """See `Benchmark`."""
        return self.benchmark.identity(index)

    def track(self, index: int) -> BenchmarkTrack:
        """See `Benchmark`."""
        track = self.benchmark.track(index)
        if track.depth is not None:
            return track
        margins = track.margins if isinstance(track, BoxTrack) else (0, 0)
        down, right = margins
        height, width = track.clip.rgb.shape[1:3]
        depth = self.estimator(track.clip.rgb[:, down : height - down, right : width - right])
        return replace(track, depth=pad_depth(depth, margins) if any(margins) else depth)


def pad_depth(depth: FloatArray, margins: tuple[int, int]) -> FloatArray:
    """Spread depth to 0 to 1 over the clip and put 1, the nearest, around it.

    Args:
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; if it is constant it becomes 0.
        margins: rows above and below, columns left and right.

    Returns:
        float32 ``[F, H + 2 rows, W + 2 columns]``.
    """
    low, high = depth.min(), depth.max()
    unit = (depth - low) / (high - low if high > low else np.float32(1))
    sides = ((0, 0), (margins[0], margins[0]), (margins[1], margins[1]))
    return np.pad(unit, sides, constant_values=1)
