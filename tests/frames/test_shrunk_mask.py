"""Shrunk masks: eroded by a distance, not along the frame's border, and never to nothing."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.frames.layers import extended_colors, over_color
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
