"""Placements: points there and back, and values looked up at points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from amodal_diffusion.propagation.placement import (
    WeightedPixels,
    bilinear,
    in_cells,
    in_pixels,
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
    points, found, counts = WeightedPixels.of(colors, weight).interpolate(rows, columns, above=0)
    assert points.tolist() == [0, 1]
    np.testing.assert_allclose(found.T, [[0.75, 1.75, 2.75], [0, 1, 2]], atol=1e-6)
    assert counts == pytest.approx([1.0, 0.5])


def test_a_crop_to_what_counts_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    colors, weight = rng.integers(256, size=(9, 11, 3), dtype=np.uint8), np.zeros((9, 11), np.float32)
    weight[2:6, 3:11] = rng.random((4, 8), np.float32)
    rows, columns = rng.uniform(-3, 13, size=(2, 500))
    cropped = WeightedPixels.of(colors, weight)
    everywhere = WeightedPixels(-1, -1, 13, np.pad(weight, 1).ravel(),
                                np.pad(colors, ((1, 1), (1, 1), (0, 0))).reshape(-1, 3).T)  # fmt: skip
    for one, other in zip(cropped.interpolate(rows, columns, above=0.1),
                          everywhere.interpolate(rows, columns, above=0.1), strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)


def test_nothing_that_counts_has_no_colors() -> None:
    pixels = WeightedPixels.of(np.ones((4, 5, 3), np.uint8), np.zeros((4, 5), np.bool_))
    assert pixels.interpolate(np.asarray([0.0, 2.0]), np.asarray([0.0, 2.5]), above=0)[1].shape == (3, 0)


@pytest.mark.parametrize("size", [(7, 5), (1, 6), (1, 1)])
def test_bilinear_values_are_those_of_scipy_to_the_bit(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, *size)).astype(np.float32)
    points = np.concatenate([rng.uniform(-2, 8, size=(2, 300)), np.indices(size).reshape(2, -1)], axis=1)
    wanted = [ndimage.map_coordinates(plane, points, order=1, mode="nearest") for plane in maps]
    np.testing.assert_array_equal(bilinear(maps, *points), wanted)


def test_cells_and_pixels_have_the_same_places() -> None:
    placement = np.asarray([[4.0, 1.0, 0.2, 0.1]])
    np.testing.assert_allclose(in_cells(placement, 3), [[1.0, 0.0, 0.2, 0.1]])  # the center of the cell of rows 3 to 5
    np.testing.assert_allclose(in_pixels(in_cells(placement, 3), 3), placement)
