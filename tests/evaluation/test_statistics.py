"""Pooled means and their standard errors, on cases worked by hand."""

from __future__ import annotations

import math

import pytest

from amodal_diffusion.evaluation.statistics import Tally, difference, pooled_mean


def test_frames_are_pooled_and_tracks_stand_beside() -> None:
    mean = pooled_mean([Tally(total=3.0, count=4), Tally(total=0.0, count=1), Tally()])
    assert mean.value == pytest.approx(0.6)
    assert mean.track_mean == pytest.approx(0.375)
    assert (mean.frames, mean.tracks) == (5, 2)


def test_equal_counts_give_the_usual_standard_error() -> None:
    mean = pooled_mean([Tally(2.0, 2), Tally(1.0, 2), Tally(0.0, 2)])
    # Track means 1, 0.5, 0: sample deviation 0.5, divided by the root of 3.
    assert mean.standard_error == pytest.approx(0.5 / math.sqrt(3))


def test_repeating_every_frame_does_not_shrink_the_error() -> None:
    few = pooled_mean([Tally(0.9, 1), Tally(0.2, 1)])
    many = pooled_mean([Tally(90.0, 100), Tally(20.0, 100)])
    assert many.standard_error == pytest.approx(few.standard_error)


def test_nothing_to_pool_is_nan() -> None:
    mean = pooled_mean([Tally(), Tally()])
    assert math.isnan(mean.value)
    assert math.isnan(pooled_mean([Tally(1.0, 2)]).standard_error)


def test_difference_is_paired() -> None:
    first = [Tally(0.9, 1), Tally(0.3, 1)]
    second = [Tally(0.7, 1), Tally(0.1, 1)]
    mean = difference(first, second)
    assert mean.value == pytest.approx(0.2)
    assert mean.standard_error == pytest.approx(0.0, abs=1e-12)


def test_difference_of_other_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="same frames"):
        difference([Tally(1.0, 2)], [Tally(1.0, 1)])
