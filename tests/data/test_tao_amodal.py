"""TAO-Amodal's curated tracks: what is read, and how a mistake is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.tao_amodal import parse_tao_record, read_first_tracks, stream_tao_records
from amodal_diffusion.frames.masks import encode_rle

MASK = np.zeros((10, 20), dtype=np.bool_)
MASK[2:5, 3:9] = True
ENTRY = {
    "track_id": 21,
    "category_id": 1,
    "video_id": 5,
    "file_names": ["val/a/f1.jpg", "val/a/f2.jpg"],
    "rles": [encode_rle(MASK)["counts"], encode_rle(~MASK)["counts"]],
    "height": 10,
    "width": 20,
    "amodal_bboxes": [[-4, 0, 12.5, 6], [0, 0, 2, 2]],
}


def test_a_track_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tao.json"
    path.write_text(json.dumps([ENTRY]), encoding="utf-8")
    (record,) = stream_tao_records(path)
    assert record.num_frames == 2
    assert record.amodal_bboxes[0] == (-4, 0, 12.5, 6)
    np.testing.assert_array_equal(record.modal_masks(), np.stack([MASK, ~MASK]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"track_id": "21"}, "track 0: track_id: expected an integer, got '21'"),
        ({"file_names": []}, "track 0: file_names: expected a list of paths"),
        ({"rles": ["x"]}, "track 0: rles: expected 2 values, one per frame"),
        ({"amodal_bboxes": [[0, 0, 1, 1], None]}, "track 0: amodal_bboxes: frame 1: expected"),
    ],
)
def test_a_mistake_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_tao_record(ENTRY | change, where="track 0")


def test_a_missing_key_is_named() -> None:
    entry = {key: value for key, value in ENTRY.items() if key != "rles"}
    with pytest.raises(InputError, match="no rles"):
        parse_tao_record(entry, where="track 0")
    with pytest.raises(InputError, match="expected an object"):
        parse_tao_record([], where="track 0")


def test_first_tracks(tmp_path: Path) -> None:
    path = tmp_path / "first.json"
    path.write_text('{"5": 20}', encoding="utf-8")
    assert read_first_tracks(path) == {5: 20}
    path.write_text("[5]", encoding="utf-8")
    with pytest.raises(InputError, match="expected a JSON object of track numbers"):
        read_first_tracks(path)
