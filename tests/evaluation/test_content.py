"""Scores of painted content, on a track worked by hand, and the filling to compare with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.baselines import fill_with_mean_color
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.scores import ContentScorer, frechet_video_distance
from amodal_diffusion.models.perceptual import VideoFeatures
from amodal_diffusion.types import VideoClip
from tests.factories import tiny_video_features


@pytest.fixture
def track() -> MaskTarget:
    """A gray square of which the right half is hidden."""
    whole = np.zeros((2, 32, 32), dtype=np.bool_)
    whole[:, 8:24, 8:24] = True
    modal = whole.copy()
    modal[..., 16:] = False
    rgb = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    true = np.full_like(rgb, 100)
    return MaskTarget(identity="square", clip=VideoClip(rgb, modal), amodal_mask=whole, amodal_rgb=true)


def test_filling_takes_the_mean_of_visible_pixels() -> None:
    rgb = np.zeros((1, 1, 3, 3), dtype=np.uint8)
    rgb[0, 0] = [[10, 20, 30], [20, 40, 60], [255, 255, 255]]
    filled = fill_with_mean_color(rgb, np.array([[[True, True, False]]]))
    assert filled.shape == rgb.shape
    assert (filled == [15, 30, 45]).all()


def test_hidden_part_and_whole_object_are_scored_apart(track: MaskTarget) -> None:
    painted = np.full((2, 32, 32, 3), 100, dtype=np.uint8)
    painted[..., 16:, :] = 151  # the hidden half is wrong by 51, a fifth of the range
    scores = ContentScorer().score(track, painted)
    assert scores.psnr == pytest.approx(20 * math.log10(5))
    assert scores.psnr_object == pytest.approx(20 * math.log10(5) + 10 * math.log10(2))
    assert scores.ssim < scores.ssim_object < 1
    assert scores.flicker == 0.0
    assert math.isnan(scores.lpips)


def test_what_is_painted_outside_of_the_object_does_not_count(track: MaskTarget) -> None:
    painted = np.full((2, 32, 32, 3), 100, dtype=np.uint8)
    painted[:, :8] = 7
    scores = ContentScorer().score(track, painted)
    assert (scores.psnr, scores.psnr_object) == (99.0, 99.0)
    assert scores.ssim == pytest.approx(1.0)


def test_video_distance_of_methods(track: MaskTarget, tmp_path: Path) -> None:
    scorer = ContentScorer(features=VideoFeatures(tiny_video_features(tmp_path)))
    right, wrong = np.full((2, 2, 32, 32, 3), 100, dtype=np.uint8)
    wrong[:] = np.random.default_rng(0).integers(0, 256, wrong.shape, dtype=np.uint8)
    truth, good, bad = (scorer.features(track, painted) for painted in (track.amodal_rgb, right, wrong))  # type: ignore[arg-type]
    assert truth is not None
    assert good is not None
    assert bad is not None
    assert frechet_video_distance([(good, truth)] * 2) == pytest.approx(0.0, abs=1e-6)
    assert frechet_video_distance([(bad, truth)] * 2) > 1e-3
    assert math.isnan(frechet_video_distance([(good, truth)]))
    assert ContentScorer().features(track, right) is None
