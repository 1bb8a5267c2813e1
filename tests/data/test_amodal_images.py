"""Amodal annotations of single images: the keys and codings of masks, which objects are kept, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.amodal_images import AmodalImageIndex
from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.types import BoolArray

IMAGE = {"id": 3, "file_name": "a/0.png", "height": 10, "width": 20}


def _square(rows: slice, columns: slice) -> BoolArray:
    mask = np.zeros((10, 20), dtype=np.bool_)
    mask[rows, columns] = True
    return mask


WHOLE, SEEN = _square(slice(2, 8), slice(4, 12)), _square(slice(2, 8), slice(4, 7))
POLYGON = [4, 2, 12, 2, 12, 8, 4, 8]
OBJECT = {"image_id": 3, "category_id": 1, "segmentation": encode_rle(WHOLE), "visible_mask": encode_rle(SEEN)}


def _write(path: Path, *annotations: Any, images: object = (IMAGE,)) -> Path:
    path.write_text(json.dumps({"annotations": annotations, "images": images}), encoding="utf-8")  # images last
    return path


@pytest.mark.parametrize(
    ("amodal", "whole"), [("a_segm", [POLYGON]), ("segmentation", [POLYGON]), ("segmentation", encode_rle(WHOLE))]
)
@pytest.mark.parametrize("modal", ["i_segm", "inmodal_seg", "visible_mask"])
def test_masks_under_all_usual_keys(tmp_path: Path, amodal: str, whole: object, modal: str) -> None:
    path = _write(tmp_path / "a.json", {"image_id": 3, amodal: whole, modal: encode_rle(SEEN)})
    found = AmodalImageIndex(path).object(0)
    np.testing.assert_array_equal(found.amodal, WHOLE)
    np.testing.assert_array_equal(found.modal, SEEN)
    assert (found.image_file_name, found.size) == ("a/0.png", (10, 20))


def test_regions_of_an_image(tmp_path: Path) -> None:
    regions = [
        {"segmentation": POLYGON, "order": 1},  # all visible
        {"segmentation": POLYGON, "order": 2, "visible_mask": encode_rle(SEEN), "invisible_mask": encode_rle(WHOLE)},
    ]
    index = AmodalImageIndex(_write(tmp_path / "a.json", {"image_id": 3, "regions": regions}))
    assert list(index.places()) == ["3/0", "3/1"]
    for number, seen in enumerate((WHOLE, SEEN)):
        np.testing.assert_array_equal(index.object(number).modal, seen)
        np.testing.assert_array_equal(index.object(number).amodal, WHOLE)


def test_objects_that_are_never_visible_are_left_out_and_others_keep_their_places(tmp_path: Path) -> None:
    hidden = [OBJECT | {"visible_mask": mask} for mask in (None, [], encode_rle(WHOLE & ~WHOLE))]
    index = AmodalImageIndex(_write(tmp_path / "a.json", OBJECT, *hidden, OBJECT))
    assert list(index.places()) == ["3/0", "3/4"]
    assert list(index.places(1)) == ["3/0"]


def test_an_index_of_another_layout_is_not_taken(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.json", OBJECT)
    AmodalImageIndex(path)
    with pytest.raises(InputError, match="expected JSON that is a list of tracks, got an object"):
        TrackIndex(path)
    assert len(AmodalImageIndex(path)) == 1


def test_a_damaged_mask_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.json", OBJECT | {"visible_mask": {"size": [10, 20], "counts": "x"}}, OBJECT)
    index = AmodalImageIndex(path)
    with pytest.raises(InputError, match="modal mask: rle: expected runs that fill 10 x 20"):
        index.object(0)
    np.testing.assert_array_equal(index.object(1).modal, SEEN)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (OBJECT | {"image_id": 4}, "annotations: 0: expected an object with the image_id of one of the images"),
        ([], "annotations: 0: expected an object with the image_id"),
        ({"image_id": 3, "segmentation": [POLYGON]}, "annotations: 0: expected i_segm or inmodal_seg or visible_mask"),
        ({"image_id": 3, "visible_mask": [POLYGON]}, "annotations: 0: expected a_segm or segmentation"),
        ({"image_id": 3, "regions": [7]}, "annotations: 0: expected regions that are objects, got 7"),
        ({"image_id": 3, "regions": 7}, "annotations: 0: expected a list of regions, got 7"),
    ],
)
def test_what_has_not_the_layout_is_named(tmp_path: Path, annotation: object, message: str) -> None:
    path = _write(tmp_path / "a.json", annotation)
    with pytest.raises(InputError, match=message) as error:
        AmodalImageIndex(path)
    assert "\n" not in str(error.value)


def test_images_are_checked(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.json", OBJECT, images=[{"id": 3, "file_name": "a.png"}])
    with pytest.raises(InputError, match="images: 0: expected id, file_name, height, width"):
        AmodalImageIndex(path)
    path = _write(tmp_path / "b.json", OBJECT, images=[IMAGE, IMAGE])
    with pytest.raises(InputError, match="images: expected a different id for each, got 3 twice"):
        AmodalImageIndex(path)
