"""How well appearance is painted: PSNR and SSIM over a region, flicker over time, and distance of feature sets."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from amodal_diffusion.basics import InputError
from amodal_diffusion.types import BoolArray, UInt8Array

PEAK = 255.0
CEILING = 99.0
"""Decibels of equal frames, which would be infinite, and so would any mean with them."""
SSIM_SIDE = 11
"""Pixels a side of the window that SSIM looks through: a Gaussian of 1.5 pixels cut at 3.5 of them."""


def psnr(predicted: UInt8Array, truth: UInt8Array, region: BoolArray) -> float:
    """Peak signal-to-noise ratio over a region of a whole clip, in dB.

    Args:
        predicted: uint8 ``[F, H, W, 3]``.
        truth: uint8 ``[F, H, W, 3]``.
        region: bool ``[F, H, W]``.

    Returns:
        Decibels, at most 99; NaN where the region is empty.
    """
    if not region.any():
        return math.nan
    error = predicted[region].astype(np.float64) - truth[region].astype(np.float64)
    squared = float(np.mean(error**2))
    return CEILING if squared == 0 else min(CEILING, 10 * math.log10(PEAK**2 / squared))


def ssim(predicted: UInt8Array, truth: UInt8Array, region: BoolArray) -> float:
    """Structural similarity over a region of a whole clip: the mean of the region's pixels in each frame's SSIM map.

    The window is a Gaussian of 1.5 pixels, as in the measure's first publication; it sees what lies about the region.

    Args:
        predicted: uint8 ``[F, H, W, 3]``, at least 11 x 11 pixels.
        truth: uint8 ``[F, H, W, 3]``.
        region: bool ``[F, H, W]``.

    Returns:
        At most 1; NaN where the region is empty.

    Raises:
        InputError: if the frames are smaller.
    """
    if min(truth.shape[1:3]) < SSIM_SIDE:
        raise InputError(f"frames: expected at least {SSIM_SIDE} x {SSIM_SIDE} pixels for SSIM, got {truth.shape[1:3]}")
    total = 0.0
    for frame in np.flatnonzero(region.any(axis=(1, 2))):
        _, similar = structural_similarity(  # type: ignore[no-untyped-call]
            truth[frame],
            predicted[frame],
            channel_axis=-1,
            data_range=PEAK,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        total += float(similar[region[frame]].mean(axis=-1).sum())
    area = int(region.sum())
    return total / area if area else math.nan


def gradient_ratio(predicted: UInt8Array, truth: UInt8Array, region: BoolArray) -> float:
    """Mean gradient magnitude of a region over that of the truth there: below 1 for a blur, above 1 for noise.

    Gradients are central differences of the mean of the channels; a pixel counts if it and its four neighbors lie in
    the region, so that the border, where both have an edge, does not.

    Args:
        predicted: uint8 ``[F, H, W, 3]``.
        truth: uint8 ``[F, H, W, 3]``.
        region: bool ``[F, H, W]``.

    Returns:
        at least 0; NaN where no pixel counts or the truth has one color.
    """
    inner = region[:, 1:-1, 1:-1] & region[:, 2:, 1:-1] & region[:, :-2, 1:-1] & region[:, 1:-1, 2:]
    inner &= region[:, 1:-1, :-2]
    means = []
    for video in (predicted, truth):
        gray = video.mean(axis=-1)
        down, across = gray[:, 2:, 1:-1] - gray[:, :-2, 1:-1], gray[:, 1:-1, 2:] - gray[:, 1:-1, :-2]
        means.append(float(np.hypot(down, across)[inner].mean()) if inner.any() else 0.0)
    return means[0] / means[1] if means[1] > 0 else math.nan


def flicker(predicted: UInt8Array, truth: UInt8Array, region: BoolArray) -> float:
    """Change of the painted colors from frame to frame that the true colors do not have, in gray levels.

    The mean, over the pixels that are in the region in two consecutive frames, of how much the error changes. An error
    that stays as it is does not flicker.

    Args:
        predicted: uint8 ``[F, H, W, 3]``.
        truth: uint8 ``[F, H, W, 3]``.
        region: bool ``[F, H, W]``.

    Returns:
        0 to 510; NaN where no pixel is in the region twice in a row.
    """
    total, pixels = 0.0, 0
    for frame in range(len(region) - 1):
        both = region[frame] & region[frame + 1]
        errors = [predicted[at][both].astype(np.int32) - truth[at][both].astype(np.int32) for at in (frame, frame + 1)]
        total += float(np.abs(errors[1] - errors[0]).mean(axis=-1).sum())
        pixels += int(both.sum())
    return total / pixels if pixels else math.nan


def frechet_distance(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Frechet distance of two sets of features, each taken for a normal distribution.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` with means m and covariances C.

    Args:
        first: float64 ``[N, D]``, N at least 2.
        second: float64 ``[M, D]``, M at least 2.

    Raises:
        InputError: if there are fewer features or their lengths differ.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise InputError(
            f"features: expected two arrays [N, D] of at least 2 rows, got {list(first.shape)}, {list(second.shape)}"
        )
    one, other = np.atleast_2d(np.cov(first, rowvar=False)), np.atleast_2d(np.cov(second, rowvar=False))
    # The eigenvalues of a product of two covariances are real and not negative but for rounding.
    root = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0)).sum()
    apart = first.mean(axis=0) - second.mean(axis=0)
    return float(max(0.0, apart @ apart + np.trace(one) + np.trace(other) - 2 * root))
