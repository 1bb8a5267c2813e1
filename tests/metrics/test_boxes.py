"""Boxes worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics import above, box_iou, boxes_of


def test_smallest_boxes() -> None:
    masks = np.zeros((3, 5, 7), dtype=np.bool_)
    masks[0, 1:3, 2:6] = True
    masks[1, 4, 6] = masks[1, 0, 0] = True
    assert boxes_of(masks).tolist() == [[2, 1, 4, 2], [0, 0, 7, 5], [0, 0, 0, 0]]


def test_iou_of_boxes() -> None:
    first = np.asarray([[0, 0, 4, 4], [-2, -2, 4, 4], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=np.float64)
    second = np.asarray([[2, 0, 4, 4], [-2, -2, 4, 2], [5, 5, 1, 1], [0, 0, 2, 2], [3, 3, 0, 0]], dtype=np.float64)
    np.testing.assert_equal(box_iou(first, second), [8 / 24, 1 / 2, 0, 0, math.nan])
    with pytest.raises(InputError, match="boxes: expected two arrays"):
        box_iou(first, second[:2])


def test_only_frames_above_a_threshold_count() -> None:
    ious = np.asarray([0.5, 0.51, math.nan, 1.0])
    np.testing.assert_equal(above(ious, 0.5), [0, 1, math.nan, 1])
