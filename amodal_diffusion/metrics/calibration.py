"""Calibration of probability maps: the reliability curve and the expected calibration error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics.pooling import Values
from amodal_diffusion.metrics.protocols import check_masks
from amodal_diffusion.types import BoolArray, FloatArray

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Reliability curve: how often pixels of each probability are right.

    The first bin holds probability 0 alone, which most pixels have; the others share (0, 1] equally.

    Attributes:
        pixels: number of pixels in each bin, float64 ``[bins + 1]``.
        predicted: mean probability of the pixels; NaN in an empty bin.
        observed: share of the pixels that belong to the object; NaN in an empty bin.
    """

    pixels: Values
    predicted: Values
    observed: Values

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over pixels of ``|observed - predicted|`` of their bin."""
        return self._error(first=0)

    @property
    def error_where_predicted(self) -> float:
        """Expected calibration error over pixels of a probability above 0, where most pixels do not count."""
        return self._error(first=1)

    def _error(self, *, first: int) -> float:
        pixels = self.pixels[first:]
        if not pixels.sum():
            return math.nan
        return float(np.nansum(pixels * np.abs(self.observed - self.predicted)[first:]) / pixels.sum())


class Calibration:
    """Pools the pixels of one track after another."""

    def __init__(self, bins: int = BINS) -> None:
        """Start with no tracks.

        Args:
            bins: number of equal parts of (0, 1].
        """
        self._bins = bins
        self._pixels, self._probability, self._object = (np.zeros(bins + 1) for _ in range(3))

    def add(self, probability: FloatArray, truth: BoolArray, region: BoolArray) -> None:
        """Add a track.

        Args:
            probability: in [0, 1], float32 ``[F, H, W]``.
            truth: bool ``[F, H, W]``.
            region: which pixels count, bool ``[F, H, W]``; those that are not given away by the input.

        Raises:
            InputError: if shapes, dtypes or the range are not so.
        """
        check_masks(region=region, truth=truth)
        values = probability[region].astype(np.float64) if probability.shape == region.shape else np.empty(0)
        if probability.shape != region.shape or not ((values >= 0) & (values <= 1)).all():
            raise InputError(
                f"probability: expected values in [0, 1] of shape {list(region.shape)}, got {list(probability.shape)}"
            )
        # Rounded first: a share such as 3/10 in float32 lies a little above the edge that it belongs to.
        bins = np.ceil(np.round(values * self._bins, 5)).astype(np.intp)
        self._pixels += np.bincount(bins, minlength=len(self._pixels))
        self._probability += np.bincount(bins, values, minlength=len(self._pixels))
        self._object += np.bincount(bins, truth[region], minlength=len(self._pixels))

    def sums(self) -> Values:
        """Sums so far: pixels, probabilities and pixels of the object of each bin, float64 ``[3, bins + 1]``."""
        return np.stack([self._pixels, self._probability, self._object])

    def add_sums(self, sums: Values) -> None:
        """Add the sums of another `Calibration`, float64 ``[3, bins + 1]``."""
        self._pixels += sums[0]
        self._probability += sums[1]
        self._object += sums[2]

    def result(self) -> Reliability:
        """The curve so far."""
        with np.errstate(invalid="ignore"):
            return Reliability(self._pixels.copy(), self._probability / self._pixels, self._object / self._pixels)
