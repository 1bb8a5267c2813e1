"""Means over frames of many tracks, and their standard error, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amodal_diffusion.metrics import FramePool, RatioPool, pool


def test_pooling_weighs_frames_and_its_error_tracks() -> None:
    pooled = pool([np.asarray([1.0, 1.0, math.nan]), np.asarray([0.0]), np.asarray([math.nan])])
    assert pooled.value == pytest.approx(2 / 3)
    assert pooled.track_mean == pytest.approx(1 / 2)
    assert (pooled.frames, pooled.tracks) == (3, 2)
    # Residuals of the tracks' sums: 2 - 2 * 2/3 and 0 - 2/3.
    assert pooled.standard_error == pytest.approx(math.sqrt(2 * ((2 / 3) ** 2 + (2 / 3) ** 2)) / 3)


def test_the_running_error_is_that_of_the_formula() -> None:
    generator = np.random.default_rng(1)
    tracks = [generator.random(generator.integers(1, 9)) for _ in range(40)]
    totals, counts = np.asarray([track.sum() for track in tracks]), np.asarray([len(track) for track in tracks])
    mean = totals.sum() / counts.sum()
    spread = ((totals - mean * counts) ** 2).sum() * 40 / 39
    assert pool(tracks).standard_error == pytest.approx(math.sqrt(spread) / counts.sum(), rel=1e-12)


def test_equal_tracks_have_no_error() -> None:
    assert pool([np.full(5, 0.1)] * 7).standard_error == pytest.approx(0.0, abs=1e-15)


def test_pooling_nothing_is_not_a_number() -> None:
    empty = pool([np.asarray([math.nan])])
    assert math.isnan(empty.value)
    assert (empty.frames, empty.tracks) == (0, 0)
    assert math.isnan(pool([np.asarray([0.5, 0.7])]).standard_error)


def test_a_pool_goes_on_after_a_result() -> None:
    pooled = FramePool()
    pooled.add(np.asarray([1.0]))
    assert pooled.result().value == 1.0
    pooled.add(np.asarray([0.0]))
    assert pooled.result().value == 0.5


def test_the_interval_is_students() -> None:
    pooled = pool([np.asarray([0.0]), np.asarray([1.0])])  # standard error 1/2; t of one degree is 12.706
    assert pooled.interval == pytest.approx((0.5 - 12.7062 / 2, 0.5 + 12.7062 / 2), abs=1e-4)
    assert np.isnan(pool([np.asarray([1.0])]).interval).all()


def test_a_ratio_counts_tracks_that_add_to_its_first_sum_alone() -> None:
    pooled = RatioPool()
    for part, whole in ((2.0, 4.0), (0.0, 0.0), (1.0, 0.0), (0.0, 2.0)):
        pooled.add(part, whole)
    ratio = pooled.result()
    assert (ratio.value, ratio.tracks) == (0.5, 3)
    # Residuals of the tracks: 2 - 4/2, 1 and 0 - 2/2.
    assert ratio.standard_error == pytest.approx(math.sqrt(3 / 2 * (0 + 1 + 1)) / 6)


def test_a_ratio_of_nothing_is_not_a_number() -> None:
    pooled = RatioPool()
    pooled.add(1.0, 0.0)
    assert math.isnan(pooled.result().value)
