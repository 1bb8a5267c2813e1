"""Which pixels are nearer than the object, on clips worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import nearer_pixels


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


def test_depth_is_of_the_masks_shape() -> None:
    with pytest.raises(InputError, match="depth: expected the modal mask's shape"):
        nearer_pixels(np.ones((1, 2, 2), np.bool_), np.zeros((1, 2, 3), np.float32))
