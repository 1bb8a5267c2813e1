"""Hidden parts are those that other frames show, as far as the frames predict each other's colors."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.propagation.mask_propagation import propagate_masks
from tests.propagation.moving import moving


@pytest.mark.parametrize("with_depth", [True, False])
def test_hidden_pixels_that_other_frames_show_are_found_and_relied_on(with_depth: bool) -> None:
    clip = moving()
    found = propagate_masks(clip.rgb, clip.modal, clip.depth if with_depth else None)
    assert (found.share[clip.hidden] > 0.5).mean() > 0.9
    assert found.weight[clip.hidden].mean() > 0.6
    assert not found.weight[clip.modal].any()
    for value in (found.share, found.weight):
        assert value.dtype == np.float32
        assert value.min() >= 0
        assert value.max() <= 1


def test_with_depth_other_frames_show_background() -> None:
    clip = moving()
    found = propagate_masks(clip.rgb, clip.modal, clip.depth)
    outside = ~clip.amodal & (found.weight > 0.5)
    assert outside.any()
    assert (found.share[outside] < 0.5).mean() > 0.95


def test_frames_that_do_not_predict_each_other_are_not_relied_on() -> None:
    clip = moving()
    noise = np.random.default_rng(0).integers(0, 255, clip.rgb.shape, dtype=np.uint8)
    found = propagate_masks(noise, clip.modal, None)
    assert found.weight[clip.hidden].mean() < 0.05


def test_an_object_that_is_never_visible_gives_nothing() -> None:
    clip = moving()
    found = propagate_masks(clip.rgb, np.zeros_like(clip.modal), None)
    assert not found.weight.any()
