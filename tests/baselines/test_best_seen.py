"""Each hidden pixel comes from the frame that shows most of the object, if any frame shows it."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.baselines import copy_best_seen
from amodal_diffusion.types import VideoClip
from tests.propagation.moving import moving


@pytest.mark.parametrize("with_depth", [True, False])
def test_hidden_pixels_are_copied_and_others_are_the_inputs(with_depth: bool) -> None:
    clip = moving()
    video = VideoClip(clip.rgb, clip.modal, fps=8.0)
    painted = copy_best_seen(video, clip.amodal, clip.depth if with_depth else None)
    np.testing.assert_array_equal(painted[~clip.hidden], clip.rgb[~clip.hidden])
    mean = clip.rgb[clip.modal].mean(axis=0)
    truth = clip.whole[clip.hidden].astype(float)
    assert np.abs(painted[clip.hidden] - truth).mean() < 0.5 * np.abs(mean - truth).mean()


def test_what_no_frame_shows_has_the_mean_color() -> None:
    clip = moving(step=0.0)
    painted = copy_best_seen(VideoClip(clip.rgb, clip.modal, fps=8.0), clip.amodal, clip.depth)
    mean = np.rint(clip.rgb[clip.modal].mean(axis=0))
    assert (painted[clip.hidden] == mean).all(axis=-1).mean() > 0.5
