"""Overlays: hidden areas are colored, visible insides stay, objects differ."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.frames.drawing import COLORS, OverlayLayer, draw_overlay


def test_the_inside_of_what_can_be_seen_stays_and_what_hides_is_colored() -> None:
    rgb = np.full((60, 80, 3), 90, np.uint8)
    amodal = np.zeros((60, 80), np.bool_)
    amodal[10:50, 10:70] = True
    visible = amodal.copy()
    visible[:, 40:] = False
    drawn = draw_overlay(rgb, [OverlayLayer(visible, amodal)])
    assert (rgb == 90).all()
    assert (drawn[20:40, 15:35] == 90).all()
    hidden = drawn[14:46, 45:66].reshape(-1, 3)
    assert (hidden != 90).any(axis=1).all()
    assert len(np.unique(hidden, axis=0)) == 2  # stripes
    assert (drawn[10, 12:68] == COLORS[0]).all()  # the outline
    assert (drawn[:5] == 90).all()


def test_objects_differ_in_color_and_may_be_empty_or_touch_the_border() -> None:
    rgb = np.zeros((20, 20, 3), np.uint8)
    nothing = np.zeros((20, 20), np.bool_)
    assert not draw_overlay(rgb, [OverlayLayer(nothing, nothing)]).any()
    left, right = nothing.copy(), nothing.copy()
    left[:, :8], right[:, 12:] = True, True
    drawn = draw_overlay(rgb, [OverlayLayer(left, left), OverlayLayer(right, right)])
    assert (drawn[10, 7] == COLORS[0]).all()
    assert (drawn[10, 12] == COLORS[1]).all()
