"""Boundary F on squares worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics import boundary_f
from amodal_diffusion.types import BoolArray


def square(first: int, last: int, side: int = 40) -> BoolArray:
    """One frame with a square from a first to before a last row and column."""
    masks = np.zeros((1, side, side), dtype=np.bool_)
    masks[0, first:last, first:last] = True
    return masks


def test_equal_outlines() -> None:
    assert boundary_f(square(10, 20), square(10, 20)).tolist() == [1.0]


def test_an_outline_within_the_tolerance_is_found() -> None:
    diagonal = math.hypot(40, 40)
    # Grown by one: the old corners are 2 ** 0.5 from the new outline's.
    assert boundary_f(square(9, 21), square(10, 20), tolerance=2 / diagonal).tolist() == [1.0]
    assert boundary_f(square(6, 24), square(10, 20), tolerance=2 / diagonal).tolist() == [0.0]


def test_half_an_outline() -> None:
    truth, guess = np.zeros((2, 1, 30, 30), dtype=np.bool_)
    truth[0, 10, :] = True  # as its neighbors below and above differ, rows 9 and 10 are its outline
    guess[0, 10, :15] = True  # rows 9 and 10 of columns 0 to 14
    value = boundary_f(guess, truth, tolerance=0.0)[0]
    # All 30 of the guess are the truth's, and 30 of the 60 of the truth the guess's.
    assert value == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_one_outline_or_none() -> None:
    nothing = np.zeros((1, 40, 40), dtype=np.bool_)
    assert boundary_f(square(10, 20), nothing).tolist() == [0.0]
    assert boundary_f(nothing, square(10, 20)).tolist() == [0.0]
    assert math.isnan(boundary_f(nothing, nothing)[0])
    assert math.isnan(boundary_f(~nothing, ~nothing)[0])  # the frame's rim is no outline


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="prediction: expected bool"):
        boundary_f(square(1, 2, side=20), square(1, 2))
