"""The hull restricted to pixels nearer than the object, on a clip worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.baselines import NearerHullSegmenter, nearer_pixels
from amodal_diffusion.types import InputError, VideoClip


def test_only_nearer_pixels_between_the_visible_ones_are_filled() -> None:
    modal = np.asarray([[[1, 0, 0, 1, 0]]], dtype=np.bool_)
    depth = np.asarray([[[0.5, 0.9, 0.1, 0.5, 0.9]]], dtype=np.float32)
    clip = VideoClip(np.zeros((1, 1, 5, 3), np.uint8), modal)
    np.testing.assert_array_equal(NearerHullSegmenter()(clip, depth)[0, 0], [1, 1, 0, 1, 0])


def test_a_frame_that_shows_nothing_takes_the_nearest_frames_depth() -> None:
    modal = np.zeros((4, 1, 3), dtype=np.bool_)
    modal[0, 0, 0] = modal[3, 0, 0] = True
    depth = np.full((4, 1, 3), 0.5, dtype=np.float32)
    depth[0, 0, 0], depth[3, 0, 0] = 0.4, 0.6
    nearer = nearer_pixels(modal, depth)
    assert nearer[1].all()  # 0.5 is nearer than 0.4 of frame 0
    assert not nearer[2].any()  # and not nearer than 0.6 of frame 3


def test_an_object_that_is_never_seen_has_nothing_nearer() -> None:
    assert not nearer_pixels(np.zeros((2, 3, 3), np.bool_), np.ones((2, 3, 3), np.float32)).any()


def test_depth_is_needed_and_of_the_masks_shape() -> None:
    clip = VideoClip(np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2), np.bool_))
    with pytest.raises(InputError, match=r"depth: .* needs depth"):
        NearerHullSegmenter()(clip, None)
    with pytest.raises(InputError, match="depth: expected the modal mask's shape"):
        NearerHullSegmenter()(clip, np.zeros((1, 2, 3), np.float32))
