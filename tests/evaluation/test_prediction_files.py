"""Published prediction files: keys in any spelling and order, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.data.tao_amodal import TaoRecord
from amodal_diffusion.evaluation.prediction_files import MissingPredictionError, PredictionFile
from amodal_diffusion.frames.masks import encode_rle, resize_masks
from amodal_diffusion.types import BoolArray


@pytest.fixture
def masks() -> BoolArray:
    return np.random.default_rng(0).random((2, 8, 16)) < 0.5


@pytest.fixture
def record() -> TrackRecord:
    empty = np.zeros((2, 20, 30), dtype=np.bool_)
    return TrackRecord.from_masks(empty, empty, image_ids=[7, 8], image_file_names=["a/0.png", "a/1.png"], obj_id=3)


TAO = TaoRecord(21, 1, 5, ("val/a/f1.jpg", "val/a/f2.jpg"), ("P6", "P6"), 10, 20, ((0, 0, 2, 2), (0, 0, 2, 2)))


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_masks_come_in_the_order_of_the_frames_at_the_annotations_size(
    masks: BoolArray, record: TrackRecord, tmp_path: Path
) -> None:
    entries = {
        "(8,3)": {"diffvas_res_rle": encode_rle(masks[1]), "other": 1},
        "('7', 3)": {"diffvas_res_rle": encode_rle(masks[0])},
    }
    with PredictionFile(write(tmp_path / "p.json", entries)) as file:
        np.testing.assert_array_equal(file.masks(record), resize_masks(masks, 20, 30))


def test_boxes_are_keyed_by_video_name_and_number(tmp_path: Path) -> None:
    entries = {
        "(5, 'f2.jpg', '2')": {"diffvas_res_bbox": [-3, 0, 4.5, 5]},
        "(5, 'f1.jpg', '2')": {"diffvas_res_bbox": [1, 2, 3, 4]},
    }
    with PredictionFile(write(tmp_path / "p.json", entries)) as file:
        assert file.boxes(TAO, 2).tolist() == [[1, 2, 3, 4], [-3, 0, 4.5, 5]]
        with pytest.raises(MissingPredictionError, match=r"expected an entry \(5, 'f1.jpg', 1\), got none"):
            file.boxes(TAO, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected a JSON object"),
        ({"7": {}}, "expected keys such as \"\\(image_id, obj_id\\)\", got '7'"),
        ({"(7, 3)": {}, "(7,3)": {}}, "a key stands twice"),
        ({"(" * 5000: {}}, "expected keys such as"),
    ],
)
def test_a_file_of_another_kind_is_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        PredictionFile(write(tmp_path / "p.json", content))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"(7, 3)": {"svd_res": 1}, "(8, 3)": {}}, r"\(7, 3\): expected an object with diffvas_res_rle"),
        (
            {"(7, 3)": {"diffvas_res_rle": {"size": [2, 2], "counts": "9"}}},
            r"\(7, 3\): rle: expected runs",
        ),
        ({"(7, 3)": {"diffvas_res_rle": None}, "(8, 3)": {}}, r"\(7, 3\): "),
    ],
)
def test_a_damaged_entry_is_named(
    entries: dict[str, object], message: str, record: TrackRecord, tmp_path: Path
) -> None:
    with PredictionFile(write(tmp_path / "p.json", entries)) as file, pytest.raises(InputError, match=message):
        file.masks(record)


def test_a_file_of_another_encoding_is_read_and_one_of_brackets_is_refused(
    masks: BoolArray, record: TrackRecord, tmp_path: Path
) -> None:
    entries = {
        f"({image}, 3)": {"diffvas_res_rle": encode_rle(mask)} for image, mask in zip((7, 8), masks, strict=True)
    }
    (tmp_path / "p.json").write_text(json.dumps(entries), encoding="utf-16")
    with PredictionFile(tmp_path / "p.json") as file:
        np.testing.assert_array_equal(file.masks(record), resize_masks(masks, 20, 30))
    (tmp_path / "deep.json").write_text('{"(7, 3)":' + "[" * 200_000)
    with pytest.raises(InputError, match="expected a JSON object"):
        PredictionFile(tmp_path / "deep.json")


def test_a_file_that_is_not_there_or_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        PredictionFile(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"(1, 2)": {"diff', encoding="utf-8")
    with pytest.raises(InputError, match="expected a JSON object"):
        PredictionFile(tmp_path / "cut.json")
