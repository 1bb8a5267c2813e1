"""Written, read by pycocotools, and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask  # type: ignore[import-untyped]
from pycocotools.coco import COCO  # type: ignore[import-untyped]

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.coco import AnnotatedTrack, CocoFile, YoutubeVisFile
from amodal_diffusion.io.mask_files import read_masks
from tests.media import Bool, moving_disc

FRAMES = 4
_, CUP = moving_disc(FRAMES, 24, 40)
DOG = np.roll(CUP, 9, axis=2)
CUP[2] = False  # vanishes and returns


def track(number: int, name: str | None = None) -> AnnotatedTrack:
    return AnnotatedTrack(
        number=number,
        category=1,
        category_name="object",
        video=1,
        image_ids=range(1, FRAMES + 1),
        file_names=[f"clip/{index}.png" for index in range(FRAMES)],
        height=24,
        width=40,
        name=name,
    )


def written(path: Path, kind: type[CocoFile] | type[YoutubeVisFile]) -> Path:
    file = kind(path)
    file.add(track(1, "cup"), CUP)
    file.add(track(2), DOG)
    file.close()
    return path


def all_of(path: Path) -> dict[str, Bool]:
    return {name: np.stack(list(found)) for name, found in read_masks(path).items()}


@pytest.mark.parametrize("kind", [CocoFile, YoutubeVisFile])
def test_what_was_written_is_read(tmp_path: Path, kind: type[CocoFile] | type[YoutubeVisFile]) -> None:
    read = all_of(written(tmp_path / "masks.json", kind))
    assert list(read) == ["2", "cup"]
    np.testing.assert_array_equal(read["cup"], CUP)
    np.testing.assert_array_equal(read["2"], DOG)
    assert read_masks(tmp_path / "masks.json")["cup"].areas == tuple(CUP.sum(axis=(1, 2)))


def test_pycocotools_reads_the_coco_file(tmp_path: Path) -> None:
    coco = COCO(str(written(tmp_path / "coco.json", CocoFile)))
    assert len(coco.imgs) == FRAMES
    cup = [coco.annToMask(entry) for entry in coco.loadAnns(coco.getAnnIds()) if entry["track_id"] == 1]
    np.testing.assert_array_equal(np.stack(cup).astype(bool), CUP[[0, 1, 3]])
    assert coco.loadCats([1])[0]["name"] == "object"


def test_pycocotools_reads_the_masks_of_the_youtube_vis_file(tmp_path: Path) -> None:
    content = json.loads(written(tmp_path / "vis.json", YoutubeVisFile).read_text())
    entry = content["annotations"][0]
    assert entry["segmentations"][2] is entry["bboxes"][2] is entry["areas"][2] is None
    np.testing.assert_array_equal(coco_mask.decode(entry["segmentations"][1]).astype(bool), CUP[1])
    assert content["videos"][0]["length"] == FRAMES


def coco(**changes: Any) -> dict[str, Any]:
    """Two frames in the wrong order, one polygon each."""
    square = [[10, 2, 20, 2, 20, 12, 10, 12]]
    size = {"height": 24, "width": 40}
    return {
        "images": [{"id": 7, "file_name": "f10.png", **size}, {"id": 8, "file_name": "f9.png", **size}],
        "annotations": [
            {"id": 1, "image_id": 7, "segmentation": square},
            {"id": 2, "image_id": 8, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]},
        ],
        **changes,
    }


def saved(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_polygons_of_one_object_in_the_order_of_file_names(tmp_path: Path) -> None:
    read = all_of(saved(tmp_path / "a.json", coco()))
    assert list(read) == ["1"]
    assert read["1"].sum(axis=(1, 2)).tolist() == [16, 100]


def test_pieces_of_one_object_and_frame_are_joined(tmp_path: Path) -> None:
    content = coco()
    content["annotations"][1]["image_id"] = 7
    for entry in content["annotations"]:
        entry["track_id"] = 5
    assert all_of(saved(tmp_path / "a.json", content))["5"].sum(axis=(1, 2)).tolist() == [0, 116]


def test_annotations_of_one_picture_are_objects(tmp_path: Path) -> None:
    content = coco()
    content["images"].pop()
    content["annotations"][1]["image_id"] = 7
    assert list(all_of(saved(tmp_path / "a.json", content))) == ["1", "2"]


RUNS = {"size": [24, 40], "counts": [0, 960]}
VIDEO = {"id": 1, "height": 24, "width": 40, "length": 2, "file_names": ["0", "1"]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "expected a COCO or YouTube-VIS file"),
        (coco(annotations=[]), "holds no annotation"),
        (coco(images=[]), "holds 0 images of 0 sizes"),
        (coco(annotations=[{"id": 4, "image_id": 9, "segmentation": RUNS, "track_id": 1}]), "annotation 4: no image 9"),
        (coco(annotations=[{"id": 4, "image_id": 7, "segmentation": {"size": [2, 2], "counts": [0, 4]}}]), "of size"),
        (coco(annotations=[{"id": 4, "image_id": 7}]), "no 'segmentation'"),
        (coco(annotations=[{"id": n, "image_id": 7, "segmentation": RUNS} for n in (1, 2)]), "expected a track_id"),
        ({"videos": [VIDEO, VIDEO], "annotations": [{}]}, "holds 2 videos; give a file with only this clip"),
        ({"videos": [VIDEO], "annotations": [{"id": 3, "segmentations": [None]}]}, "annotation 3: 1 masks for 2"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: object, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read_masks(saved(tmp_path / "masks.json", content))
    assert str(error.value).startswith(f"masks: {tmp_path / 'masks.json'}: ")
    assert problem in str(error.value)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "masks.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_masks(tmp_path / "masks.json")


def coco_of(path: Path, entries: list[dict[str, Any]], *, encoding: str = "utf-8") -> Path:
    """A COCO file of four frames; the masks of the entries are a square in the frame that each names."""
    images = [{"id": index, "file_name": f"{index:05d}.png", "height": 24, "width": 40} for index in range(FRAMES)]
    annotations = [
        {"id": number, "category_id": 1, "segmentation": [[4, 4, 12, 4, 12, 12, 4, 12]], **entry}
        for number, entry in enumerate(entries)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations}), encoding=encoding)
    return path


@pytest.mark.parametrize("key", ["track_id", "obj_id", "object_id", "instance_id", "tracking_id"])
@pytest.mark.parametrize("inside", [False, True], ids=["in the annotation", "in its attributes"])
def test_numbers_tell_objects_apart_that_are_never_seen_together(tmp_path: Path, key: str, inside: bool) -> None:
    entries = [{"image_id": frame, key: frame // 2} for frame in range(FRAMES)]
    if inside:
        entries = [{"image_id": entry["image_id"], "attributes": {key: entry[key]}} for entry in entries]
    tracks = read_masks(coco_of(tmp_path / "masks.json", entries))
    assert {name: found.areas for name, found in tracks.items()} == {"0": (64, 64, 0, 0), "1": (0, 0, 64, 64)}


def test_names_that_several_numbers_have_do_not_join_objects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [{"image_id": frame, "name": "car", "track_id": 1 + frame // 2} for frame in range(FRAMES)]
    assert list(read_masks(coco_of(tmp_path / "one.json", entries))) == ["1", "2"]
    assert "name car has the track_ids 1, 2: objects are told apart by track_id" in caplog.text
    entries = [{"image_id": frame, "name": f"car at {frame}", "track_id": 7} for frame in range(FRAMES)]
    assert list(read_masks(coco_of(tmp_path / "other.json", entries))) == ["7"]
    assert "track_id 7 has the names car at 0, car at 1, car at 2, car at 3" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_read(tmp_path: Path, encoding: str) -> None:
    path = coco_of(tmp_path / "masks.json", [{"image_id": 0, "name": "Käfer"}], encoding=encoding)
    assert list(read_masks(path)) == ["Käfer"]


def test_slivers_are_counted_and_not_a_number_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pieces = [[4, 4, 12, 4, 12, 12, 4, 12], [1, 1, 2, 1], []]
    (track,) = read_masks(coco_of(tmp_path / "masks.json", [{"image_id": 1, "segmentation": pieces}])).values()
    assert track.areas == (0, 64, 0, 0)
    assert "2 polygons of fewer than three points are left out" in caplog.text
    path = coco_of(tmp_path / "nan.json", [{"image_id": 1, "segmentation": [[1, 2, 3, 4, 5, float("nan")]]}])
    with pytest.raises(InputError, match=r"nan.json: cannot be read as JSON \(NaN is no number\)"):
        read_masks(path)
