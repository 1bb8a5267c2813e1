"""PSNR over hidden pixels and the filling it is compared with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amodal_diffusion.evaluation.content import fill_with_mean_colour, hidden_psnr


def test_filling_takes_visible_pixels_only() -> None:
    rgb = np.zeros((2, 2, 2, 3), dtype=np.uint8)
    rgb[0, 0, 0], rgb[1, 0, 0] = (10, 20, 30), (20, 20, 40)
    modal = np.zeros((2, 2, 2), dtype=np.bool_)
    modal[:, 0, 0] = True
    filled = fill_with_mean_colour(rgb, modal)
    assert filled.shape == rgb.shape
    assert (filled == np.array([15, 20, 35], dtype=np.uint8)).all()


def test_psnr_looks_at_hidden_pixels_only() -> None:
    truth = np.zeros((1, 1, 2, 3), dtype=np.uint8)
    predicted = np.array([[[[255, 255, 255], [51, 51, 51]]]], dtype=np.uint8)
    hidden = np.array([[[False, True]]])
    assert hidden_psnr(predicted, truth, hidden) == pytest.approx(20 * math.log10(5))


def test_psnr_of_equal_and_of_nothing() -> None:
    frames = np.full((1, 2, 2, 3), 7, dtype=np.uint8)
    assert hidden_psnr(frames, frames, np.ones((1, 2, 2), dtype=np.bool_)) == 99.0
    assert math.isnan(hidden_psnr(frames, frames, np.zeros((1, 2, 2), dtype=np.bool_)))
