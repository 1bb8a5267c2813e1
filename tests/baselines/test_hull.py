"""Convex hulls of pixel sets, against a definition and on degenerate ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from amodal_diffusion.baselines import HullSegmenter, ModalSegmenter, convex_hulls
from amodal_diffusion.types import BoolArray, VideoClip


def _hull_by_half_planes(mask: BoolArray) -> BoolArray:
    points = np.argwhere(mask)
    equations = ConvexHull(points).equations
    grid = np.stack(np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]], axis=-1)
    return (grid @ equations[:, :2].T + equations[:, 2] <= 1e-9).all(axis=-1)


@pytest.mark.parametrize("count", [5, 12, 60])
def test_hulls_equal_their_definition(count: int) -> None:
    generator = np.random.default_rng(count)
    masks = np.zeros((20, 17, 23), dtype=np.bool_)
    for mask in masks:
        mask[generator.integers(0, 17, count), generator.integers(0, 23, count)] = True
        mask[3:5, 3:5] = True  # never on one line
    np.testing.assert_array_equal(convex_hulls(masks), np.stack([_hull_by_half_planes(mask) for mask in masks]))


def test_degenerate_hulls() -> None:
    masks = np.zeros((5, 4, 6), dtype=np.bool_)
    masks[1, 2, 3] = True  # a pixel
    masks[2, 1, [0, 5]] = True  # a row
    masks[3, [0, 3], 2] = True  # a column
    masks[4, [0, 1, 3], [0, 1, 3]] = True  # a diagonal
    hulls = convex_hulls(masks)
    assert hulls.sum(axis=(1, 2)).tolist() == [0, 1, 6, 4, 4]
    assert hulls[4, 2, 2]
    assert convex_hulls(masks[:0]).shape == (0, 4, 6)


def test_baselines_contain_the_modal_mask_and_leave_it_alone() -> None:
    modal = np.random.default_rng(0).random((3, 8, 9)) < 0.1
    clip = VideoClip(np.zeros((3, 8, 9, 3), np.uint8), modal.copy())
    assert (HullSegmenter()(clip, None).mask >= modal).all()
    copy = ModalSegmenter()(clip, None).mask
    np.testing.assert_array_equal(copy, modal)
    copy[:] = True
    np.testing.assert_array_equal(clip.modal_mask, modal)
