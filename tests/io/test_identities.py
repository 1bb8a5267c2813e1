"""Which annotations are of one object, under the keys of CVAT and other tools, and what names become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.identities import folder_names
from amodal_diffusion.io.mask_files import read_masks

FRAMES = 4


def square(left: int) -> list[list[int]]:
    """4 x 4 pixels."""
    return [[left, 2, left + 4, 2, left + 4, 6, left, 6]]


def clip_of(path: Path, *annotations: dict[str, Any], text: str = "{}") -> Path:
    """A COCO file of 4 frames of 20 x 10 pixels; annotations get an id and a mask if they have none."""
    images = [{"id": n, "file_name": f"{n}.png", "height": 10, "width": 20} for n in range(FRAMES)]
    entries = [
        {"id": number, "category_id": 1, "segmentation": square(3), **entry} for number, entry in enumerate(annotations)
    ]
    path.write_text(text.replace("{}", json.dumps({"images": images, "annotations": entries})))
    return path


def areas(path: Path) -> dict[str, list[int]]:
    return {name: list(track.areas) for name, track in read_masks(path).items()}


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split(".json: ")[1] for record in caplog.records]


@pytest.mark.parametrize("key", ["track_id", "instance_id", "obj_id", "object_id", "tracking_id"])
@pytest.mark.parametrize("below", [False, True])
def test_one_object_leaves_as_the_other_comes(tmp_path: Path, key: str, *, below: bool) -> None:
    numbers = [0, 0, "1", 1.0]
    entries = [
        {"image_id": frame, **({"attributes": {"occluded": False, key: number}} if below else {key: number})}
        for frame, number in enumerate(numbers)
    ]
    assert areas(clip_of(tmp_path / "a.json", *entries)) == {"0": [16, 16, 0, 0], "1": [0, 0, 16, 16]}


def test_an_annotations_own_keys_count_before_its_attributes_and_null_is_none(tmp_path: Path) -> None:
    entries = [
        {"image_id": 0, "tracking_id": 4, "attributes": {"track_id": 9}},
        {"image_id": 1, "track_id": None, "instance_id": "", "tracking_id": 4},
        {"image_id": 2, "name": "", "track_id": 4, "tracking_id": 9},
    ]
    assert areas(clip_of(tmp_path / "a.json", *entries)) == {"4": [16, 16, 16, 0]}


def test_one_name_with_two_numbers_in_a_frame_is_of_a_category(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [
        {"image_id": frame, "name": "person", "track_id": number, "segmentation": square(5 * number)}
        for frame in range(2)
        for number in (1, 2)
    ]
    assert areas(clip_of(tmp_path / "a.json", *entries)) == {"1": [16, 16, 0, 0], "2": [16, 16, 0, 0]}
    assert messages(caplog) == ["name person has the track_ids 1, 2: objects are told apart by track_id"]


def test_one_number_with_two_names_is_one_object(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [{"image_id": frame, "name": name, "obj_id": 7} for frame, name in enumerate(("car", "truck"))]
    assert areas(clip_of(tmp_path / "a.json", *entries)) == {"7": [16, 16, 0, 0]}
    assert messages(caplog) == ["track_id 7 has the names car, truck: objects are told apart by track_id"]


def test_categories_tell_objects_without_ids_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [{"image_id": frame, "category_id": 1 + frame // 3} for frame in range(FRAMES)]
    assert areas(clip_of(tmp_path / "a.json", *entries)) == {"1": [16, 16, 16, 0], "2": [0, 0, 0, 16]}
    assert messages(caplog) == [
        "annotations have no track_id; those of one category_id (1, 2) are taken for one object"
    ]


def test_tracks_of_youtube_vis(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = {"id": 1, "height": 10, "width": 20, "file_names": ["a", "b"]}

    def read(*names: str) -> list[str]:
        entries = [
            {"id": n, "name": name, "track_id": n, "segmentations": [square(3), None]} for n, name in enumerate(names)
        ]
        (tmp_path / "a.json").write_text(json.dumps({"videos": [video], "annotations": entries}))
        return list(read_masks(tmp_path / "a.json"))

    assert read("cat", "dog") == ["cat", "dog"]
    assert not caplog.records
    assert read("dog", "dog") == ["0", "1"]
    assert messages(caplog) == ["name dog has the track_ids 0, 1: objects are told apart by track_id"]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([{"image_id": 0, "track_id": 1}, {"image_id": 1}], "annotation 1: expected a track_id, as others have one"),
        ([{"image_id": 0, "track_id": [1]}], r"track_id: expected a number or text, got \[1\]"),
        ([{"image_id": 0, "name": True}], "name: expected a number or text, got True"),
    ],
)
def test_what_does_not_identify_an_object(tmp_path: Path, entries: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_masks(clip_of(tmp_path / "a.json", *entries))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    path = clip_of(tmp_path / "a.json", {"image_id": 0, "name": "x"})
    path.write_bytes(path.read_text().replace('"x"', '"Kühe"').encode(encoding))
    assert areas(path) == {"Kühe": [16, 0, 0, 0]}


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path, constant: str) -> None:
    path = clip_of(tmp_path / "a.json", {"image_id": 0}, text=f'[{{}}, {{"score": {constant}}}]')
    with pytest.raises(InputError, match=f"cannot be read as JSON .{constant} is no number"):
        read_masks(path)


def test_lists_inside_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"cannot be read as JSON .lists inside each other too deep"):
        read_masks(tmp_path / "a.json")


def test_names_stay_inside_the_folder_of_objects(caplog: pytest.LogCaptureFixture) -> None:
    names = ["cup", "../../etc", "a/b", "a\\b", "a_b", "..", ".", " ", "x\0\n", "Kühe: 2", "y" * 300, "\ud800"]
    folders = folder_names(names, "m.json")
    assert folders[:8] == ["cup", "__.._etc", "a_b_2", "a_b_3", "a_b", "_", "__2", "_ "]
    assert folders[8:] == ["x__", "Kühe: 2", "y" * 100, "__3"]
    assert len(set(folders)) == len(names)
    assert len(caplog.records) == 9
    assert "object 'a/b' is named a_b_2, as names become folders" in caplog.text


def test_names_of_a_file_become_those_of_folders(tmp_path: Path) -> None:
    path = clip_of(tmp_path / "a.json", {"image_id": 0, "name": "../up"}, {"image_id": 0, "name": "down"})
    assert areas(path) == {"__up": [16, 0, 0, 0], "down": [16, 0, 0, 0]}


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": name, "height": 10, "width": 20} for name in ("a.png", "b.png")]
    entry = {"id": 1, "image_id": 1, "segmentation": square(2)}
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": [entry]}))
    with pytest.raises(InputError, match="two images have one id"):
        read_masks(tmp_path / "a.json")


def test_sizes_as_other_programs_write_them(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.png", "height": "10", "width": 20.0}
    entry = {"id": 1, "image_id": 1, "segmentation": square(2)}
    (tmp_path / "a.json").write_text(json.dumps({"images": [image], "annotations": [entry]}))
    (track,) = read_masks(tmp_path / "a.json").values()
    assert np.stack(list(track)).shape == (1, 10, 20)
    (tmp_path / "a.json").write_text(json.dumps({"images": [image | {"width": 20.5}], "annotations": [entry]}))
    with pytest.raises(InputError, match=r"width: expected a whole number from 1, got 20\.5"):
        read_masks(tmp_path / "a.json")
