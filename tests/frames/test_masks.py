"""Coding, thresholds, sizes and cut-outs of masks."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import (
    Rle,
    compose_rgba,
    cut_out_on_white,
    decode_rle,
    encode_rle,
    resize_masks,
)


def test_run_lengths_of_a_known_mask() -> None:
    mask = np.asarray([[0, 1, 1], [0, 1, 0]], dtype=np.bool_)  # by columns: two 0, three 1, one 0
    assert encode_rle(mask) == {"size": [2, 3], "counts": "231"}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_run_lengths_round_trip(share: float) -> None:
    generator = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 13), (90, 40)):
        mask = generator.random((height, width)) < share
        np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


@pytest.mark.parametrize(
    ("size", "counts"),
    [([2, 3], "23"), ([2, 4], "231"), ([2, 3], "2\u00e9"), ([2, 3], "2P"), ([2], "2"), ([0, 3], ""), ([2, 3], 7)],
    ids=["too few", "too many pixels", "no such digit", "unfinished", "one side", "no rows", "no text"],
)
def test_damaged_run_lengths_are_refused(size: list[int], counts: str) -> None:
    with pytest.raises(InputError, match="rle: expected"):
        decode_rle(Rle(size=size, counts=counts))


def test_resizing_keeps_a_mask_of_that_size_and_full_and_empty_ones() -> None:
    masks = np.random.default_rng(0).random((2, 9, 7)) < 0.5
    np.testing.assert_array_equal(resize_masks(masks, 9, 7), masks)
    for value in (False, True):
        assert (resize_masks(np.full((1, 5, 6), value), 17, 4) == value).all()


def test_resizing_up_and_down_by_hand() -> None:
    mask = np.asarray([[[0, 0, 1, 1]]], dtype=np.bool_)
    np.testing.assert_array_equal(resize_masks(mask, 1, 8)[0, 0], [0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(resize_masks(mask, 1, 2)[0, 0], [0, 1])


def test_resizing_truncates_products_as_published_scores_did() -> None:
    # In the top row the value is 5/8, of 2 quarters needed: 5/8 * 3/8 and 5/8 * 5/8 make 0 and 1 whole ones.
    mask = np.asarray([[[1, 0], [0, 0]]], dtype=np.bool_)
    assert resize_masks(mask, 8, 8)[0, 0].tolist() == [True] * 3 + [False] * 5


def test_cut_outs() -> None:
    rgb = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    mask = np.asarray([[[True, False], [False, True]]])
    cut = cut_out_on_white(rgb, mask)
    assert cut.dtype == np.uint8
    np.testing.assert_array_equal(cut[0], [[[0, 1, 2], [255] * 3], [[255] * 3, [9, 10, 11]]])


def test_a_layer_has_the_inputs_visible_pixels_and_is_clear_elsewhere() -> None:
    generator = np.random.default_rng(0)
    rgb, painted = generator.integers(0, 256, (2, 2, 5, 6, 3), dtype=np.uint8)
    visible, amodal = generator.random((2, 2, 5, 6)) < 0.4
    rgba = compose_rgba(rgb, visible, painted, amodal)
    hidden = amodal & ~visible
    np.testing.assert_array_equal(rgba[visible][:, :3], rgb[visible])
    np.testing.assert_array_equal(rgba[hidden][:, :3], painted[hidden])
    np.testing.assert_array_equal(rgba[..., 3], np.where(amodal | visible, 255, 0))
    assert not rgba[~(amodal | visible)].any()
