"""The check of a data set: a sound one passes, and each kind of damage is one line that says where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.records import read_records
from amodal_diffusion.data.validate import DatasetCheck
from amodal_diffusion.frames.masks import encode_rle, hidden_share
from tests.tracks import FRAMES, write_tracks

Entries = list[dict[str, Any]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tracks(tmp_path_factory.mktemp("scenes"), 2)


@pytest.fixture
def annotations(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound.parent, tmp_path / "scenes")
    return tmp_path / "scenes" / sound.name


def _damage(annotations: Path, change: Callable[[Entries], object]) -> None:
    entries = json.loads(annotations.read_text())
    change(entries)
    annotations.write_text(json.dumps(entries))


def _found(annotations: Path) -> list[tuple[str, str]]:
    return [(problem.kind, problem.text) for problem in DatasetCheck(annotations, annotations.parent)]


def test_a_sound_data_set_has_no_problem_and_its_shares_are_counted(sound: Path) -> None:
    seen: list[int] = []
    check = DatasetCheck(sound, sound.parent, on_track=lambda: seen.append(1))
    assert list(check) == []
    records = read_records(sound)
    shares = [hidden_share(record.modal_masks(), record.amodal_masks()) for record in records]
    report = check.report
    assert report.tracks == len(seen) == len(records)
    assert report.histogram == np.histogram(shares, bins=10, range=(0, 1))[0].tolist()
    assert report.complete == sum(share < 0.05 for share in shares)
    assert report.files == 2 * FRAMES
    assert report.frames == FRAMES * len(records)
    assert not report.problems


def test_frames_under_another_ending_are_sound(annotations: Path) -> None:
    for path in annotations.parent.glob("*/images/*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert _found(annotations) == []


def _set(key: str, value: object, frame: int | None = None) -> Callable[[Entries], object]:
    def change(entries: Entries) -> None:
        if frame is None:
            entries[1][key] = value
        else:
            entries[1][key][frame] = value

    return change


SMALL = encode_rle(np.ones((4, 6), dtype=np.bool_))
EMPTY = [encode_rle(np.zeros((32, 48), dtype=np.bool_))] * FRAMES
FULL = encode_rle(np.ones((32, 48), dtype=np.bool_))


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda entries: entries[1].pop("bbox"), "record", "track 1: bbox: missing"),
        (lambda entries: entries.insert(1, "no track"), "record", "track 1: expected an object, got str"),
        (lambda entries: entries[1]["image_ids"].pop(), "record", "image_ids: expected 4 values as in segmentation"),
        (_set("category_id", None), "record", "track 1: category_id: expected an integer, got None"),
        (
            _set("visible_mask", {"size": [32, 48]}, 2),
            "run lengths",
            "visible_mask: frame 2: expected COCO run",
        ),
        (_set("visible_mask", {"size": [32, 48], "counts": "?"}, 2), "run lengths", "visible_mask: frame 2: rle"),
        (_set("segmentation", SMALL, 0), "mask size", "masks of several sizes [H, W]: [4, 6], [32, 48]"),
        (_set("visible_mask", FULL, 3), "modal outside amodal", "outside the amodal mask in frame 3"),
        (_set("visible_mask", EMPTY), "empty track", "never visible in its 4 frames"),
        (lambda e: e[1].update(visible_mask=EMPTY, segmentation=EMPTY), "empty track", "no object in its 4 frames"),
    ],
)
def test_damage_to_a_record_is_one_line(
    annotations: Path, change: Callable[[Entries], object], kind: str, text: str
) -> None:
    _damage(annotations, change)
    [(found, line)] = _found(annotations)
    assert found == kind
    assert line.startswith("track 1")
    assert text in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda path: path.unlink(), "00001.png: no such file"),
        (lambda path: path.write_bytes(b""), "00001.png: the file is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "00001.png: damaged or unreadable"),
    ],
    ids=["missing", "empty", "cut off"],
)
def test_a_bad_frame_is_listed_once_for_all_its_tracks(
    annotations: Path, harm: Callable[[Path], object], text: str
) -> None:
    harm(annotations.parent / "train-000001/images/00001.png")
    assert sum("train-000001" in record.image_file_names[0] for record in read_records(annotations)) > 1
    [(kind, line)] = _found(annotations)
    assert kind == "frame"
    assert text in line


def test_a_frame_of_another_size_is_listed_for_each_of_its_tracks(annotations: Path) -> None:
    Image.new("RGB", (9, 7)).save(annotations.parent / "train-000001/images/00001.png")
    records = [r for r in read_records(annotations) if r.image_file_names[0].startswith("train-000001")]
    found = _found(annotations)
    assert len(found) == len(records)
    assert all(
        "masks of [H, W] [32, 48], but frames of train-000001/images/00001.png [7, 9]" in line for _, line in found
    )


def test_all_damage_is_listed_in_one_pass(annotations: Path) -> None:
    _damage(annotations, lambda entries: entries[0].update(obj_id="x", image_ids=[], visible_mask=EMPTY))
    (annotations.parent / "train-000000/images/00000.png").unlink()
    (annotations.parent / "train-000001/images/00003.png").unlink()
    _damage(annotations, lambda entries: entries[-1]["segmentation"].__setitem__(slice(1, 3), [None, {"counts": 3}]))
    assert sorted(kind for kind, _ in _found(annotations)) == [
        "empty track",
        *["frame"] * 2,
        *["record"] * 2,
        *["run lengths"] * 2,
    ]


def test_a_file_that_ends_early_is_checked_up_to_there(annotations: Path) -> None:
    content = annotations.read_text()
    annotations.write_text(content[: content.rindex('{"segmentation"') + 50])
    tracks = content.count('{"segmentation"') - 1
    check = DatasetCheck(annotations, None)
    [problem] = list(check)
    assert check.report.tracks == tracks
    assert problem.kind == "file"
    assert f"tracks after track {tracks - 1} cannot be read" in problem.text
    annotations.write_text("[]")
    assert [kind for kind, _ in _found(annotations)] == ["file"]


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        list(DatasetCheck(tmp_path / "none.json", tmp_path))
    (tmp_path / "object.json").write_text("{}")
    with pytest.raises(InputError, match="expected JSON that is a list of tracks, got an object"):
        list(DatasetCheck(tmp_path / "object.json", tmp_path))
