"""Annotation files: round trip, and a clear refusal of each kind of mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.records import TrackRecord, bounding_box, parse_record, read_records, write_records


def _record() -> TrackRecord:
    amodal = np.zeros((2, 6, 8), dtype=np.bool_)
    amodal[0, 1:4, 2:7] = True
    modal = amodal.copy()
    modal[0, :, 5:] = False
    names = ["clip/images/00000.png", "clip/images/00001.png"]
    return TrackRecord.from_masks(modal, amodal, image_ids=[0, 1], image_file_names=names, obj_id=3)


def _entry() -> dict[str, Any]:
    return json.loads(json.dumps(vars(_record())))


def test_a_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    write_records(path, [_record(), _record()])
    assert read_records(path) == (_record(), _record())
    assert list(json.loads(path.read_text())[0]) == list(TrackRecord.__dataclass_fields__)
    write_records(path, [])
    assert read_records(path) == ()


def test_masks_and_boxes_of_a_record() -> None:
    record = _record()
    assert record.size == (6, 8)
    assert record.num_frames == 2
    assert record.bbox == ((2, 1, 5, 3), (0, 0, 0, 0))
    assert record.amodal_masks().sum(axis=(1, 2)).tolist() == [15, 0]
    assert record.modal_masks().sum(axis=(1, 2)).tolist() == [9, 0]


def test_a_box_holds_its_mask_tightly() -> None:
    mask = np.zeros((5, 9), dtype=np.bool_)
    mask[4, 8] = True
    assert bounding_box(mask) == (8, 4, 1, 1)


def test_unknown_keys_are_left_alone() -> None:
    assert parse_record({**_entry(), "weather": "rain"}, where="track 0") == _record()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obj_id": "3"}, "obj_id: expected an integer, got '3'"),
        ({"category_id": True}, "category_id: expected an integer"),
        ({"image_ids": [0]}, "image_ids: expected 2 values as in segmentation, got 1"),
        ({"image_ids": "01"}, "image_ids: expected a list with a value for each frame"),
        ({"segmentation": []}, "segmentation: expected a list with a value for each frame"),
        ({"segmentation": None}, "segmentation: expected a list with a value for each frame"),
        (
            {"visible_mask": [{"size": [6, 8], "counts": [1, 2]}] * 2},
            "visible_mask: frame 0: expected COCO run lengths",
        ),
        ({"visible_mask": [{"size": [6, 9], "counts": "f1"}] * 2}, r"masks of one size \[H, W\], got"),
        ({"bbox": [[0, 0, 1]] * 2}, r"bbox: frame 0: expected \[x, y, width, height\]"),
        ({"image_file_names": ["/a.png", "b.png"]}, "image_file_names: expected paths below .* make it relative"),
        ({"image_file_names": ["../a.png", "b.png"]}, "image_file_names: expected paths below"),
        ({"image_file_names": ["C:/a.png", "b.png"]}, "image_file_names: expected paths below"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^track 0: .*{message}"):
        parse_record({**_entry(), **change}, where="track 0")


def test_missing_keys_are_named() -> None:
    entry = _entry()
    del entry["visible_mask"]
    with pytest.raises(InputError, match="no visible_mask"):
        parse_record(entry, where="track 0")
    with pytest.raises(InputError, match="expected an object with a track's keys, got list"):
        parse_record([], where="track 0")


def test_files_that_are_no_annotations_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    with pytest.raises(InputError, match=r"annotations.json: cannot be read \(No such file"):
        read_records(path)
    path.write_text("[{")
    with pytest.raises(InputError, match="expected JSON in UTF-8"):
        read_records(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="expected a list of tracks, got dict"):
        read_records(path)


def test_counts_that_differ_are_refused() -> None:
    masks = np.zeros((2, 4, 4), dtype=np.bool_)
    with pytest.raises(InputError, match="expected as many frames of one size"):
        TrackRecord.from_masks(masks, masks, image_ids=[0], image_file_names=["a", "b"], obj_id=1)
