"""Soft edges lie around the object, and its own pixels stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.frames.layers import carry_color, premultiply, style_layer
from tests.media import UInt8, moving_disc

RGB, MASK = moving_disc(1)
LAYER = np.concatenate([RGB[0], MASK[0][..., None] * np.uint8(255)], axis=-1)
LAYER[~MASK[0]] = 0


def test_a_hard_straight_layer_is_left_alone() -> None:
    np.testing.assert_array_equal(style_layer(LAYER), LAYER)


@pytest.mark.parametrize("width", [1, 3, 40])
def test_a_soft_edge_lies_around_the_object(width: int) -> None:
    soft = style_layer(LAYER, soft_edge=width)
    np.testing.assert_array_equal(soft[MASK[0]], LAYER[MASK[0]])
    around = soft[~MASK[0]]
    assert 0 < around[:, 3].max() <= 255 * width / (width + 1) + 1
    np.testing.assert_array_equal(np.unique(around[around[:, 3] > 0][:, :3], axis=0), [(230, 220, 120)])
    assert not around[around[:, 3] == 0].any()


def test_a_soft_edge_falls_in_steps() -> None:
    line = np.zeros((1, 9, 4), np.uint8)
    line[0, :3] = (9, 8, 7, 255)
    assert style_layer(line, soft_edge=3)[0, :, 3].tolist() == [255, 255, 255, 191, 128, 64, 0, 0, 0]


def test_premultiplied_colors_come_back() -> None:
    soft = style_layer(LAYER, soft_edge=4)
    multiplied = style_layer(LAYER, soft_edge=4, alpha="premultiplied")
    np.testing.assert_array_equal(multiplied, premultiply(soft))
    np.testing.assert_array_equal(multiplied[MASK[0]], LAYER[MASK[0]])
    seen = soft[..., 3] > 0
    again = multiplied[seen][:, :3] * 255.0 / multiplied[seen][:, 3:]
    assert np.abs(again - soft[seen][:, :3]).max() <= 255 / soft[seen][:, 3].min() / 2 + 1
    assert (multiplied[..., :3] <= multiplied[..., 3:]).all()


def test_color_is_carried_without_alpha() -> None:
    carried = carry_color(LAYER, 5)
    np.testing.assert_array_equal(carried[..., 3], LAYER[..., 3])
    np.testing.assert_array_equal(carried[MASK[0]], LAYER[MASK[0]])
    rim: UInt8 = carried[~MASK[0]]
    assert (rim == (230, 220, 120, 0)).all(axis=-1).sum() > 100


@pytest.mark.parametrize("alpha", ["straight", "premultiplied"])
def test_an_empty_layer(alpha: str) -> None:
    nothing = np.zeros((4, 5, 4), np.uint8)
    np.testing.assert_array_equal(style_layer(nothing, soft_edge=2, alpha=alpha), nothing)  # type: ignore[arg-type]
    np.testing.assert_array_equal(carry_color(nothing, 2), nothing)
