"""Placements: points there and back, and values looked up at points."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amodal_diffusion.video.tracking.placement import lattice, look_up, to_frame, to_object


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
