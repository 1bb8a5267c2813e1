"""Placements: points there and back, and values looked up at points."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amodal_diffusion.propagation.placement import (
    in_cells,
    in_pixels,
    interpolate,
    lattice,
    look_up,
    to_frame,
    to_object,
)


def test_a_quarter_turn_at_twice_the_size() -> None:
    placement = np.asarray([10.0, 20.0, math.log(2), math.pi / 2])
    row, column = to_frame(placement, np.asarray([0.0, 3.0]), np.asarray([1.0, 0.0]))
    assert row == pytest.approx([12.0, 10.0])  # a step along the object's columns leads down in the frame
    assert column == pytest.approx([20.0, 14.0])


def test_there_and_back() -> None:
    placement = np.asarray([4.0, -2.0, 0.3, 1.1])
    rows, columns = np.random.default_rng(0).normal(size=(2, 7))
    back = to_object(placement, *to_frame(placement, rows, columns))
    np.testing.assert_allclose(back, (rows, columns))


def test_looking_up_takes_the_nearest_pixel_and_nothing_outside() -> None:
    maps = np.arange(6, dtype=np.float32).reshape(1, 2, 3) + 1
    rows, columns = np.asarray([0.4, 0.5, 1.4, -0.6, 0.0]), np.asarray([0.0, 1.5, 1.0, 0.0, 2.6])
    np.testing.assert_array_equal(look_up(maps, rows, columns), [[1, 6, 5, 0, 0]])


def test_a_lattice_lies_about_the_origin() -> None:
    rows, columns = lattice(3, step=2.0)
    assert rows.ravel().tolist() == columns.ravel().tolist() == [-2.0, 0.0, 2.0]
    assert (rows.shape, columns.shape) == ((3, 1), (1, 3))


def test_between_pixels_those_that_count_are_mixed() -> None:
    colors = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    weight = np.asarray([[True, True], [False, True]])
    rows, columns = np.asarray([0.0, 0.5, 5.0]), np.asarray([0.25, 0.0, 0.0])
    found, counts = interpolate(colors, weight, rows, columns)
    np.testing.assert_allclose(found, [[0.75, 1.75, 2.75], [0, 1, 2], [0, 0, 0]], atol=1e-6)
    assert counts == pytest.approx([1.0, 0.5, 0.0])


def test_cells_and_pixels_have_the_same_places() -> None:
    placement = np.asarray([[4.0, 1.0, 0.2, 0.1]])
    np.testing.assert_allclose(in_cells(placement, 3), [[1.0, 0.0, 0.2, 0.1]])  # the center of the cell of rows 3 to 5
    np.testing.assert_allclose(in_pixels(in_cells(placement, 3), 3), placement)
