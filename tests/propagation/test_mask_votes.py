"""What other frames show of an object is laid over each frame, in gray."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.propagation.mask_prior import temporal_mask_prior
from amodal_diffusion.types import BoolArray, FloatArray


def behind_a_bar(frames: int = 10) -> tuple[BoolArray, BoolArray, FloatArray]:
    """Whole and visible masks, and depth, of a square with a foot that moves to the right behind an upright bar."""
    whole = np.zeros((frames, 40, 80), dtype=np.bool_)
    for frame in range(frames):
        left = 8 + 5 * frame
        whole[frame, 10:26, left : left + 12] = whole[frame, 22:26, left : left + 18] = True
    bar = np.zeros((40, 80), dtype=np.bool_)
    bar[:, 36:44] = True
    depth = np.where(bar, 0.9, np.where(whole, 0.5, 0.1)).astype(np.float32)
    return whole, whole & ~bar, depth


@pytest.mark.parametrize("with_depth", [True, False])
def test_hidden_pixels_are_lighter_than_others(with_depth: bool) -> None:
    whole, modal, depth = behind_a_bar()
    rgb = np.where(modal[..., None], 200, 40).astype(np.uint8).repeat(3, axis=-1)
    shown = temporal_mask_prior(rgb, modal, depth if with_depth else None)
    assert shown.dtype == np.float32
    assert (shown[modal] == 1).all()
    assert -1 <= shown[~modal].min() < shown[~modal].max() < 0
    hidden = whole & ~modal
    assert shown[hidden].mean() > -0.45
    assert shown[~whole].mean() < -0.95


def test_an_object_that_is_never_visible_shows_nothing() -> None:
    nothing = np.zeros((3, 8, 9), dtype=np.bool_)
    assert (temporal_mask_prior(np.zeros((3, 8, 9, 3), np.uint8), nothing, None) == -1).all()


def test_a_single_frame_has_no_others() -> None:
    modal = np.zeros((1, 12, 12), dtype=np.bool_)
    modal[0, 3:8, 3:8] = True
    shown = temporal_mask_prior(np.zeros((1, 12, 12, 3), np.uint8), modal, None)
    assert np.array_equal(shown, np.where(modal, 1, -1))
