"""Edges of layers: shrunk masks, soft edges, and colors that are carried beyond the object."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.frames.layers import color_outline, extended_colors, over_color, style_layer
from amodal_diffusion.frames.masks import shrunk_mask


def test_what_is_removed() -> None:
    mask = np.zeros((12, 16), bool)
    mask[2:9, 3:14] = True
    kept = np.zeros_like(mask)
    kept[4:7, 5:12] = True
    np.testing.assert_array_equal(shrunk_mask(mask, 2), kept)
    assert shrunk_mask(mask, 0) is mask
    np.testing.assert_array_equal(shrunk_mask(mask, 50), shrunk_mask(mask, 3))  # the innermost pixels stay
    assert shrunk_mask(mask, 3).sum() == 5
    assert not shrunk_mask(np.zeros_like(mask), 2).any()


def test_the_border_of_the_frame_stays() -> None:
    mask = np.zeros((12, 16), bool)
    mask[:5, :6] = True
    kept = np.zeros_like(mask)
    kept[:4, :5] = True
    np.testing.assert_array_equal(shrunk_mask(mask, 1), kept)
    full = np.ones_like(mask)
    np.testing.assert_array_equal(shrunk_mask(full, 3), full)
    wide = np.pad(mask, ((2, 2), (3, 3)))
    inside = np.s_[2:14, 3:19]
    np.testing.assert_array_equal(shrunk_mask(wide, 1, inside=inside), np.pad(kept, ((2, 2), (3, 3))))


def test_colors_of_the_nearest_known_pixels_and_a_layer_over_a_color() -> None:
    rgb = np.zeros((3, 5, 3), np.uint8)
    rgb[:, 0], rgb[:, 4] = (10, 20, 30), (200, 100, 50)
    known = np.zeros((3, 5), bool)
    known[1, 0] = known[1, 4] = True
    wanted = np.zeros_like(known)
    wanted[1, 1] = wanted[1, 3] = True
    np.testing.assert_array_equal(extended_colors(rgb, known, wanted), [(10, 20, 30), (200, 100, 50)])
    layer = np.array([[(100, 0, 50, 255), (100, 0, 50, 51), (9, 9, 9, 0)]], np.uint8)
    np.testing.assert_array_equal(over_color(layer, (0, 200, 50)), [[(100, 0, 50), (20, 160, 50), (0, 200, 50)]])


def test_hidden_pixels_along_the_outline_have_colors_from_inside() -> None:
    amodal, modal = np.zeros((2, 9, 12), bool)
    amodal[1:8, 1:11], modal[1:8, 1:5] = True, True
    inside = np.zeros_like(amodal)
    inside[3:6, 5:9] = True
    whole = np.full((9, 12, 3), 255, np.uint8)
    whole[modal], whole[inside] = (10, 20, 30), (200, 100, 50)
    colored = color_outline(whole, modal, amodal, shrunk_mask(amodal, 2))
    assert {tuple(color) for color in colored[amodal & ~modal].tolist()} == {(200, 100, 50)}
    assert tuple(colored[4, 10]) == (200, 100, 50)
    np.testing.assert_array_equal(colored[modal | ~amodal], whole[modal | ~amodal])
    assert color_outline(whole, modal, amodal, amodal) is whole
    assert color_outline(whole, np.zeros_like(modal), amodal, np.zeros_like(amodal)) is whole


def test_a_soft_edge_has_colors_of_the_object_alone() -> None:
    layer = np.zeros((9, 12, 4), np.uint8)
    layer[3:6, 4:6] = (200, 10, 10, 255)
    layer[3:6, 6:8] = (10, 10, 200, 255)
    soft = style_layer(layer, soft_edge=2)
    band = (soft[..., 3] > 0) & (layer[..., 3] == 0)
    assert band.sum() > 20
    np.testing.assert_array_equal(soft[layer[..., 3] > 0], layer[layer[..., 3] > 0])
    assert {tuple(color) for color in soft[band][:, :3].tolist()} == {(200, 10, 10), (10, 10, 200)}
    assert not soft[soft[..., 3] == 0].any()  # no color is left to shine through where a program ignores alpha
