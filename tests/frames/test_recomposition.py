"""Layers put back over the background: the input again if the order is right, a counted difference if not."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.frames.layers import Difference, compare, recompose
from amodal_diffusion.frames.masks import compose_rgba
from amodal_diffusion.types import BoolArray

RGB = np.random.default_rng(0).integers(0, 200, (6, 10, 3), dtype=np.uint8)
PAINT = np.full_like(RGB, 250)
LEFT, RIGHT = np.zeros((2, 6, 10), dtype=np.bool_)
LEFT[1:5, 1:5] = True
RIGHT[1:5, 5:9] = True
BEHIND = LEFT.copy()
BEHIND[1:5, 5:7] = True


def layer(modal: BoolArray, amodal: BoolArray) -> np.ndarray:
    return compose_rgba(RGB[None], modal[None], PAINT[None], amodal[None])[0]


def test_the_right_order_gives_the_input() -> None:
    layers = [layer(LEFT, BEHIND), layer(RIGHT, RIGHT)]
    picture = recompose(RGB, [LEFT, RIGHT], layers)
    np.testing.assert_array_equal(picture, RGB)
    assert compare(picture, RGB, [LEFT, RIGHT]) == Difference(pixels=32)


def test_the_wrong_order_is_counted() -> None:
    layers = [layer(RIGHT, RIGHT), layer(LEFT, BEHIND)]
    difference = compare(recompose(RGB, [LEFT, RIGHT], layers), RGB, [LEFT, RIGHT])
    apart = 250 - RGB[1:5, 5:7].astype(int)
    assert difference == Difference(pixels=32, differing=8, largest=apart.max(), total=apart.sum())
    assert difference.share == 8 / 32
    assert difference.mean == apart.sum() / (32 * 3)


def test_what_no_layer_brings_back_is_counted() -> None:
    picture = recompose(RGB, [LEFT, RIGHT], [layer(LEFT, LEFT)])
    assert (picture[RIGHT] == 0).all()
    assert compare(picture, RGB, [LEFT, RIGHT]).differing == RGB[RIGHT].any(axis=-1).sum()


def test_an_object_behind_what_has_no_mask_is_no_difference() -> None:
    picture = recompose(RGB, [LEFT], [layer(LEFT, BEHIND)])
    assert (picture[BEHIND & ~LEFT] == 250).all()
    assert compare(picture, RGB, [LEFT]) == Difference(pixels=16)


def test_half_transparent_layers_mix() -> None:
    soft = layer(LEFT, LEFT)
    soft[..., 3] //= 2
    below = np.concatenate([np.full_like(RGB, 40), np.full((6, 10, 1), 255, np.uint8)], axis=-1)
    picture = recompose(RGB, [LEFT], [below, soft])
    expected = (RGB[LEFT] * 127.0 + 40.0 * 128) / 255
    assert np.abs(picture[LEFT] - expected).max() <= 0.5


def test_differences_add_up() -> None:
    total = Difference(4, 1, 9, 12) + Difference(2, 0, 0, 0) + Difference()
    assert total == Difference(6, 1, 9, 12)
    assert Difference().mean == Difference().share == 0
