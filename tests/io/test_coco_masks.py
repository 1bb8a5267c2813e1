"""Every form of a mask that COCO-like files have, and what is none."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import decode_rle, encode_rle
from amodal_diffusion.io.coco import count_slivers, decode_coco_mask, read_coco_mask

MASK = np.zeros((6, 8), dtype=np.bool_)
MASK[1:4, 2:6] = True


def test_all_forms_of_a_mask_are_the_same_mask() -> None:
    columns = MASK.T.ravel()
    starts = np.flatnonzero(np.diff(columns)) + 1
    runs = np.diff([0, *starts, columns.size]).tolist()  # the mask begins outside
    polygon, halves = [2, 1, 6, 1, 6, 4, 2, 4], [[2, 1, 4, 1, 4, 4, 2, 4], [4, 1, 6, 1, 6, 4, 4, 4]]
    for value in (encode_rle(MASK), {"size": [6, 8], "counts": runs}, [polygon], halves):
        rle = read_coco_mask(value, 6, 8)
        assert rle is not None
        np.testing.assert_array_equal(decode_rle(rle), MASK)


def test_what_lies_outside_the_frame_is_cut_off() -> None:
    rle = read_coco_mask([[-20, -7, 3, -7, 3, 2, -20, 2], [6, 4, 30, 4, 30, 90, 6, 90]], 6, 8)
    assert rle is not None
    expected = np.zeros((6, 8), np.bool_)
    expected[:2, :3] = expected[4:, 6:] = True
    np.testing.assert_array_equal(decode_rle(rle), expected)


@pytest.mark.parametrize("size", [(0, 8), (6, -8), (2**14 + 1, 2**14)])
def test_frames_of_no_or_too_many_pixels_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="expected a frame of 1 to 268,435,456 pixels"):
        read_coco_mask(None, *size)
    if min(size) > 0:
        runs = {"size": list(size), "counts": encode_rle(np.zeros((1, 1), np.bool_))["counts"]}
        with pytest.raises(InputError, match="expected a mask of at most 268,435,456 pixels"):
            decode_rle(runs)  # type: ignore[arg-type]


def test_nothing_is_none() -> None:
    assert read_coco_mask(None, 6, 8) is None
    assert read_coco_mask([], 6, 8) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mask", "expected run lengths"),
        ([[1, 2, 3, 4, 5, "6"]], "expected run lengths"),
        ([[1, 2, 3, 4, 5, float("nan")]], "expected polygons in pixels of the frame"),
        ([[1, 2, 3, 4, 5, float("inf")]], "expected polygons in pixels of the frame"),
        ([[1, 2, 3, 4, 5, 10**400]], "expected polygons in pixels of the frame"),
        ([[1, 2, 3, 4, 5, 1e9]], "got coordinates beyond 10,000,000"),
        ([[0, 0, 1e6, 1, 0, 2, 1e6, 3]], r"got an outline of 4,000,\d+ pixels"),
        ({"size": [8, 6], "counts": "0"}, r"expected run lengths of size \[6, 8\] as the frame's, got \[8, 6\]"),
        ({"size": [6, 8], "counts": None}, "expected counts that are text or a list of runs"),
        ({"size": [6, 8], "counts": [50, -2]}, "expected counts that are text or a list of runs"),
        ({"size": [6, 8], "counts": [40, 9]}, "expected runs that fill 6 x 8 = 48 pixels, got 49"),
    ],
)
def test_what_is_no_mask_is_refused(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_coco_mask(value, 6, 8)


def test_polygons_without_area_are_left_out_and_counted() -> None:
    square = [1, 1, 5, 1, 5, 4, 1, 4]
    pieces = [square, [2, 3, 2, 3], [], [6, 2], [0, 0, 5, 0, 5, 5, 0]]
    np.testing.assert_array_equal(decode_coco_mask(pieces, 6, 8), decode_coco_mask([square], 6, 8))
    assert read_coco_mask([[]], 6, 8) is None
    assert not decode_coco_mask([[1, 2, 3, 4]], 6, 8).any()
    assert (count_slivers(pieces), count_slivers([pieces, None, [[]]]), count_slivers([1, 2, 3, 4])) == (4, 5, 0)
