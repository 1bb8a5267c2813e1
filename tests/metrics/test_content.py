"""Measures of painted content on frames worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import linalg

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics import flicker, frechet_distance, psnr, ssim
from amodal_diffusion.types import UInt8Array


def gray(*values: int, side: int = 12) -> UInt8Array:
    """Frames of one gray level each."""
    return np.stack([np.full((side, side, 3), value, dtype=np.uint8) for value in values])


def test_psnr_over_a_region_alone() -> None:
    truth = np.zeros((1, 1, 2, 3), dtype=np.uint8)
    predicted = np.array([[[[255, 255, 255], [51, 51, 51]]]], dtype=np.uint8)
    assert psnr(predicted, truth, np.array([[[False, True]]])) == pytest.approx(20 * math.log10(5))


def test_psnr_of_equal_and_of_nothing() -> None:
    frames = gray(7)
    assert psnr(frames, frames, np.ones(frames.shape[:3], dtype=np.bool_)) == 99.0
    assert math.isnan(psnr(frames, frames, np.zeros(frames.shape[:3], dtype=np.bool_)))


def test_ssim_of_flat_frames_compares_their_levels() -> None:
    first, second = 100, 150
    constant = (0.01 * 255) ** 2
    region = np.ones((1, 12, 12), dtype=np.bool_)
    # Without any variance the second factor is 1.
    expected = (2 * first * second + constant) / (first**2 + second**2 + constant)
    assert ssim(gray(first), gray(second), region) == pytest.approx(expected)


def test_ssim_counts_the_region_alone() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    predicted = truth.copy()
    predicted[0, :10] = 0
    region = np.zeros((2, 40, 40), dtype=np.bool_)
    region[:, 20:] = True  # farther from what differs than the window reaches
    assert ssim(predicted, truth, region) == pytest.approx(1.0)
    assert ssim(predicted, truth, ~region) < 0.9
    assert math.isnan(ssim(predicted, truth, np.zeros_like(region)))


def test_ssim_needs_room_for_its_window() -> None:
    with pytest.raises(InputError, match="at least 11 x 11"):
        ssim(gray(1, side=10), gray(1, side=10), np.ones((1, 10, 10), dtype=np.bool_))


def test_only_change_of_the_error_flickers() -> None:
    region = np.ones((3, 12, 12), dtype=np.bool_)
    truth = gray(10, 20, 30)
    assert flicker(gray(15, 25, 35), truth, region) == 0.0
    assert flicker(gray(10, 28, 30), truth, region) == 8.0
    region[1] = False
    assert math.isnan(flicker(gray(10, 28, 30), truth, region))


def test_flicker_counts_pixels_that_are_there_twice() -> None:
    region = np.zeros((2, 12, 12), dtype=np.bool_)
    region[0, :6], region[1, 5:] = True, True  # row 5 alone is in both
    predicted = gray(10, 10)
    predicted[1, 5] = 14
    predicted[1, 8] = 200
    assert flicker(predicted, gray(10, 10), region) == 4.0


def test_frechet_distance_of_normal_distributions() -> None:
    one = np.asarray([[-1.0], [1.0]])  # mean 0, variance 2
    other = np.asarray([[1.0], [5.0]])  # mean 3, variance 8
    assert frechet_distance(one, other) == pytest.approx(9 + 2 + 8 - 2 * 4)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-12)


def test_frechet_distance_with_a_matrix_root() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(50, 4)), 2 * generator.normal(size=(60, 4)) + 1
    covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    apart = one.mean(axis=0) - other.mean(axis=0)
    root = np.trace(linalg.sqrtm(covariances[0] @ covariances[1])).real
    expected = apart @ apart + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    assert frechet_distance(one, other) == pytest.approx(expected)
    with pytest.raises(InputError, match="features: expected two arrays"):
        frechet_distance(one[:1], other)
