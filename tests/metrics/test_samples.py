"""The best and all of k predictions, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.metrics import Agreement, best_sample, joined_samples, probability_map, score_track
from amodal_diffusion.types import BoolArray


def strip(*runs: tuple[int, int]) -> BoolArray:
    """Frames of one row of ten pixels, each filled from a first to before a last column."""
    masks = np.zeros((len(runs), 1, 10), dtype=np.bool_)
    for mask, (first, last) in zip(masks, runs, strict=True):
        mask[0, first:last] = True
    return masks


MODAL, AMODAL = strip((0, 4), (0, 8)), strip((0, 8), (0, 8))
SAMPLES = (strip((0, 4), (0, 8)), strip((0, 6), (0, 8)), strip((0, 6), (0, 8)))
"""A miss; half of the hidden part, twice."""


def test_the_best_sample_is_the_first_with_the_largest_miou() -> None:
    scores = [score_track(sample, MODAL, AMODAL) for sample in SAMPLES]
    assert best_sample(scores) == 1
    assert best_sample(scores[::-1]) == 0


def test_a_track_without_an_object_has_a_best_sample_too() -> None:
    nothing = strip((0, 0))
    assert best_sample([score_track(nothing, nothing, nothing)] * 2) == 0


def test_means_over_all_samples() -> None:
    joined = joined_samples([score_track(sample, MODAL, AMODAL) for sample in SAMPLES])
    assert joined.miou == pytest.approx((4 / 8 + 1 + 6 / 8 + 1 + 6 / 8 + 1) / 6)
    assert joined.miou_occ == pytest.approx((0 + 2 / 4 + 2 / 4) / 3)
    assert len(joined.frames.iou) == 6


def test_the_probability_is_the_share_of_samples() -> None:
    probability = probability_map(SAMPLES)
    np.testing.assert_allclose(probability[0, 0], [1, 1, 1, 1, 2 / 3, 2 / 3, 0, 0, 0, 0], rtol=1e-6)
    assert probability.dtype == np.float32


def test_agreement_is_the_mean_iou_with_the_others() -> None:
    agreement = Agreement(3)
    for frame in range(2):
        agreement.add(np.stack([strip((0, 4), (0, 4)), strip((0, 4), (0, 8)), strip((0, 2), (0, 2))])[:, frame])
    # Pixels 8, 12 and 4; in common 8, 4 and 4; in either 12, 8 and 12.
    assert agreement.result() == pytest.approx([(8 / 12 + 4 / 8) / 2, (8 / 12 + 4 / 12) / 2, (4 / 8 + 4 / 12) / 2])
    alone = Agreement(1)
    alone.add(strip((0, 0))[None])
    assert alone.result() == [1.0]
    empty = Agreement(2)
    empty.add(np.zeros((2, 4), dtype=np.bool_))
    assert empty.result() == [1.0, 1.0]
