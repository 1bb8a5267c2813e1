"""A painting of the wrong tint is shifted to the colors beside it; what it draws stays."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.frames.seams import blend_seams


@pytest.mark.parametrize("side", [40, 250])
def test_a_wrong_tint_goes_and_the_drawing_stays(side: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(60, 160, (side, side, 3), dtype=np.uint8)
    known = np.ones((side, side), dtype=np.bool_)
    known[side // 4 : side // 2, side // 4 : side * 3 // 4] = False
    painted = (truth + np.array([40, 20, -30])).astype(np.uint8)
    found = blend_seams(painted, truth, known, ~known)
    assert np.array_equal(found[known], painted[known])
    assert np.abs(found[~known].astype(int) - truth[~known]).max() <= 1


def test_the_nearest_errors_count_most() -> None:
    truth = np.full((60, 120, 3), 100, np.uint8)
    painted = truth.copy()
    painted[:, :60], painted[:, 60:] = 130, 80
    known = np.ones((60, 120), dtype=np.bool_)
    known[:, 20:40] = known[:, 80:100] = False
    found = blend_seams(painted, truth, known, ~known)
    assert np.abs(found[~known].astype(int) - 100).max() < 6


def test_without_known_or_wanted_pixels_nothing_changes() -> None:
    painted, nothing = np.full((8, 9, 3), 7, np.uint8), np.zeros((8, 9), dtype=np.bool_)
    assert np.array_equal(blend_seams(painted, painted, nothing, ~nothing), painted)
    assert np.array_equal(blend_seams(painted, painted, ~nothing, nothing), painted)
