"""Reliability curves worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics import Calibration

EVERYWHERE = np.ones((1, 1, 10), dtype=np.bool_)


def test_a_curve_by_hand() -> None:
    probability = np.asarray([[[0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1]]], dtype=np.float32)
    truth = np.asarray([[[0, 0, 1, 1, 0, 0, 0, 1, 1, 1]]], dtype=np.bool_)
    pooled = Calibration(bins=2)
    pooled.add(probability, truth, EVERYWHERE)
    curve = pooled.result()
    assert curve.pixels.tolist() == [3, 4, 3]
    assert curve.predicted.tolist() == [0, 0.5, 1]
    assert curve.observed.tolist() == [1 / 3, 1 / 4, 1]
    assert curve.error == pytest.approx((3 * 1 / 3 + 4 * 1 / 4 + 0) / 10)
    assert curve.error_where_predicted == pytest.approx(4 * 1 / 4 / 7)


def test_only_the_region_counts_and_tracks_add_up() -> None:
    pooled = Calibration(bins=10)
    region = EVERYWHERE.copy()
    region[..., 5:] = False
    for _ in range(2):
        pooled.add(np.full((1, 1, 10), 0.3, dtype=np.float32), ~EVERYWHERE, region)
    curve = pooled.result()
    assert curve.pixels.tolist() == [0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]  # 0.3 in float32 is a little above
    assert math.isnan(curve.observed[0])
    assert curve.error == pytest.approx(0.3)


def test_nothing_predicted_has_no_error_where_predicted() -> None:
    pooled = Calibration()
    pooled.add(np.zeros((1, 1, 10), dtype=np.float32), ~EVERYWHERE, EVERYWHERE)
    assert pooled.result().error == 0.0
    assert math.isnan(pooled.result().error_where_predicted)


@pytest.mark.parametrize("values", [np.full((1, 1, 10), 1.5), np.full((1, 1, 10), np.nan), np.zeros((1, 1, 9))])
def test_what_is_no_probability_is_refused(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="probability: expected values in"):
        Calibration().add(values.astype(np.float32), EVERYWHERE, EVERYWHERE)


def test_sums_of_two_make_one_curve() -> None:
    generator = np.random.default_rng(0)
    whole, parts = Calibration(), [Calibration(), Calibration()]
    for part in parts:
        probability = generator.random((1, 1, 10), dtype=np.float32)
        truth = generator.random((1, 1, 10)) < 0.5
        for pooled in (whole, part):
            pooled.add(probability, truth, EVERYWHERE)
    joined = Calibration()
    for part in parts:
        joined.add_sums(part.sums())
    np.testing.assert_allclose(joined.sums(), whole.sums(), rtol=1e-12)
    assert joined.result().error == pytest.approx(whole.result().error)
