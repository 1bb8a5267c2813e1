"""Masks between two masks: they move and grow evenly, and what was given stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from amodal_diffusion.frames.masks import fill_between

Bool = npt.NDArray[np.bool_]


def disc(row: float, column: float, radius: float) -> Bool:
    rows, columns = np.mgrid[:60, :100]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


def test_a_disc_that_moves_and_grows_is_half_way_in_the_middle() -> None:
    filled = fill_between({0: disc(20, 20, 8), 4: disc(40, 70, 16)})
    assert list(filled) == [0, 1, 2, 3, 4]
    expected = disc(30, 45, 12)
    assert (filled[2] & expected).sum() / (filled[2] | expected).sum() > 0.95
    areas = [int(mask.sum()) for mask in filled.values()]
    assert areas == sorted(areas)


def test_given_masks_stay_to_the_bit() -> None:
    given = {3: disc(20, 20, 8), 5: disc(30, 50, 5), 6: disc(30, 60, 5)}
    filled = fill_between(given)
    assert list(filled) == [3, 4, 5, 6]
    for frame, mask in given.items():
        np.testing.assert_array_equal(filled[frame], mask)


def test_nothing_lies_between_a_mask_and_an_empty_one() -> None:
    filled = fill_between({0: disc(20, 20, 8), 3: np.zeros((60, 100), np.bool_)})
    assert [bool(mask.any()) for mask in filled.values()] == [True, False, False, False]


def test_one_mask_is_all_there_is() -> None:
    assert list(fill_between({7: disc(20, 20, 8)})) == [7]
