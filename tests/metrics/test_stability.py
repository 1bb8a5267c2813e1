"""Instability on a row of pixels worked by hand."""

from __future__ import annotations

import math

import numpy as np

from amodal_diffusion.metrics import instability
from amodal_diffusion.types import BoolArray


def strip(*runs: tuple[int, int]) -> BoolArray:
    """Frames of one row of twenty pixels, each filled from a first to before a last column."""
    masks = np.zeros((len(runs), 1, 20), dtype=np.bool_)
    for mask, (first, last) in zip(masks, runs, strict=True):
        mask[0, first:last] = True
    return masks


def test_motion_alone_is_stable() -> None:
    truth = strip((2, 6), (5, 9), (4, 8))
    assert instability(strip((1, 6), (4, 9), (3, 8)), truth).tolist() == [0.0, 0.0]


def test_a_pixel_more_is_a_change() -> None:
    truth = strip((2, 6), (5, 9))
    assert instability(strip((2, 6), (5, 10)), truth).tolist() == [1 - 4 / 5]


def test_change_that_the_truth_has_is_no_fault() -> None:
    truth = strip((4, 8), (4, 9))  # its center moves by half a pixel, rounded up
    moved = 1 - 4 / 5  # of (5, 9) and (4, 9)
    assert instability(truth, truth).tolist() == [0.0]
    # The prediction is gone in the second frame: its change is 1, of which the truth has a fifth.
    assert instability(strip((4, 8), (0, 0)), truth).tolist() == [1 - moved]


def test_what_leaves_the_frame_is_no_change() -> None:
    truth = strip((0, 6), (0, 4))  # moves left by a pixel: centers at 2.5 and 1.5
    # The prediction moves left with it, out of the frame.
    assert instability(strip((0, 8), (0, 7)), truth).tolist() == [0.0]


def test_frames_without_an_object_do_not_count() -> None:
    values = instability(strip((2, 6), (2, 6), (2, 6)), strip((2, 6), (0, 0), (2, 6)))
    assert np.isnan(values).all()
    assert values.shape == (2,)
    assert instability(strip((0, 0), (0, 0)), strip((2, 6), (2, 6))).tolist() == [0.0]
    assert instability(strip((2, 6)), strip((2, 6))).shape == (0,)
    assert not math.isnan(instability(strip((0, 20), (0, 20)), strip((0, 1), (19, 20)))[0])
