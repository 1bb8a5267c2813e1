"""COCO-like and YouTube-VIS-like files: annotations are gathered into tracks, in the order of the frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.folder_source import VideoObject
from amodal_diffusion.data.json_source import JsonKeys, json_objects
from amodal_diffusion.data.prepare import ClipSettings, prepare, source_objects
from amodal_diffusion.data.records import TrackRecord, read_records, write_records
from amodal_diffusion.frames.masks import decode_rle, encode_rle
from amodal_diffusion.types import BoolArray
from tests.tracks import square

FRAMES = 12
WHOLE = square(FRAMES, 24, [(4, frame) for frame in range(FRAMES)], side=8)
MODAL = WHOLE.copy()
MODAL[:, 8:] = False


def _coco() -> dict[str, Any]:
    """Two videos; object 5 is in all frames of both, object 9 in the first three of the second. Out of order."""
    images = [
        {"id": 100 * video + frame, "file_name": f"v{video}/images/{frame}.bmp", "height": 24, "width": 24}
        for video in (1, 2)
        for frame in range(FRAMES)
    ]
    annotations = [
        {
            "id": number,
            "image_id": image["id"],
            "obj_id": obj_id,
            "category_id": obj_id + 1,
            "segmentation": encode_rle(WHOLE[image["id"] % 100]),
            "visible_mask": encode_rle(MODAL[image["id"] % 100]),
        }
        for number, (image, obj_id) in enumerate(
            (image, obj_id)
            for image in images
            for obj_id in (5, 9)
            if obj_id == 5 or 200 <= image["id"] < 203  # type: ignore[operator]
        )
    ]
    rng = np.random.default_rng(0)
    shuffled = [[entries[int(place)] for place in rng.permutation(len(entries))] for entries in (images, annotations)]
    return {"annotations": shuffled[1], "videos": [{"id": 1, "vid_name": "v1"}], "images": shuffled[0]}


def _tracks(folder: Path, content: object, keys: JsonKeys | None = None) -> list[VideoObject]:
    (folder / "data.json").write_text(json.dumps(content))
    return list(json_objects(folder / "data.json", keys or JsonKeys()))


def _masks(track: VideoObject, kind: str) -> BoolArray:
    nothing = np.zeros(track.size, dtype=np.bool_)
    return np.stack([nothing if rle is None else decode_rle(rle) for rle in getattr(track, kind)])


def test_annotations_of_frames_are_gathered_by_video_and_object(tmp_path: Path) -> None:
    tracks = _tracks(tmp_path, _coco())
    found = {(track.image_file_names[0].split("/")[0], track.obj_id): track for track in tracks}
    assert len(tracks) == len(found) == 3
    for (video, obj_id), track in found.items():
        assert track.category_id == obj_id + 1
        assert list(track.image_file_names) == [f"{video}/images/{frame}.bmp" for frame in range(FRAMES)]
        assert list(track.image_ids) == [100 * int(video[1]) + frame for frame in range(FRAMES)]
        there = np.arange(FRAMES)[:, None, None] < (3 if obj_id == 9 else FRAMES)
        np.testing.assert_array_equal(_masks(track, "amodal"), WHOLE & there)
        np.testing.assert_array_equal(_masks(track, "modal"), MODAL & there)
    assert set(found) == {("v1", 5), ("v2", 5), ("v2", 9)}


def test_video_and_frame_ids_beat_names_and_keys_can_be_named(tmp_path: Path) -> None:
    content = _coco()
    for image in content["images"]:
        image |= {"video_id": 3, "frame_id": image["id"], "file_name": f"{900 - image['id']}.png"}
    for annotation in content["annotations"]:
        annotation |= {"who": annotation.pop("obj_id"), "whole": annotation.pop("segmentation")}
        annotation["seen"] = annotation.pop("visible_mask")
    tracks = _tracks(tmp_path, content, JsonKeys(modal="seen", amodal="whole", object="who"))
    assert [track.obj_id for track in tracks] == [5, 9]
    assert list(tracks[0].image_ids) == [*range(100, 100 + FRAMES), *range(200, 200 + FRAMES)]
    with pytest.raises(InputError, match=r"expected visible_mask, got the keys .*seen.* name the right one as --modal"):
        _tracks(tmp_path, content)


def _youtube_vis() -> dict[str, Any]:
    names = [f"v/{frame}.jpg" for frame in range(FRAMES)]
    tracks = [
        {
            "id": number,
            "video_id": number,
            "category_id": 1,
            "segmentations": [None if frame == 2 else encode_rle(mask) for frame, mask in enumerate(WHOLE)],
            "visible_masks": [None if frame < 4 else encode_rle(mask) for frame, mask in enumerate(MODAL)],
        }
        for number in (7, 8)
    ]
    videos = [{"id": number, "file_names": names, "height": 24, "width": 24, "length": FRAMES} for number in (7, 8)]
    return {"videos": videos, "annotations": tracks}


def test_tracks_of_videos(tmp_path: Path) -> None:
    first, second = _tracks(tmp_path, _youtube_vis())
    assert (first.obj_id, second.obj_id) == (7, 8)
    assert not set(first.image_ids) & set(second.image_ids)
    assert [frame for frame in range(FRAMES) if first.amodal[frame] is None] == [2]
    assert [frame for frame in range(FRAMES) if first.modal[frame] is None] == [0, 1, 2, 3]
    np.testing.assert_array_equal(_masks(second, "modal")[4:], MODAL[4:])


def test_complete_objects_are_cut_out_of_an_annotation_file(tmp_path: Path) -> None:
    names = [f"clip/{frame}.png" for frame in range(FRAMES)]
    records = [
        TrackRecord.from_masks(modal, WHOLE, image_ids=range(FRAMES), image_file_names=names, obj_id=obj_id)
        for obj_id, modal in ((1, MODAL), (2, WHOLE))
    ]
    write_records(tmp_path / "own.json", records)
    paths = {"annotations": tmp_path / "all.json", "complete": tmp_path / "complete.json"}
    report = prepare(source_objects(tmp_path / "own.json"), ClipSettings(frames=FRAMES), **paths)
    assert (report.clips, report.complete) == (2, 1)
    assert list(read_records(tmp_path / "complete.json")) == records[1:]
    with pytest.raises(InputError, match="modal, amodal, object: expected none for"):
        list(json_objects(tmp_path / "own.json", JsonKeys(modal="m")))


def test_object_numbers_under_attributes_and_as_text(tmp_path: Path) -> None:
    content = _coco()
    for place, annotation in enumerate(content["annotations"]):
        number = annotation.pop("obj_id")
        annotation["attributes"] = {"occluded": False, "track_id": (number, float(number), str(number))[place % 3]}
    assert sorted(track.obj_id for track in _tracks(tmp_path, content)) == [5, 5, 9]
    content["annotations"][0]["attributes"]["track_id"] = "person"
    with pytest.raises(InputError, match="annotations: 0: track_id: expected an integer, got 'person'"):
        _tracks(tmp_path, content)
    tracks = _youtube_vis()
    for number, annotation in enumerate(tracks["annotations"]):
        annotation["attributes"] = {"track_id": 70 + number}  # says more than the annotation's own id
    assert [track.obj_id for track in _tracks(tmp_path, tracks)] == [70, 71]
    for annotation in tracks["annotations"]:
        annotation |= {"track_id": 4, "video_id": 7}
    with pytest.raises(InputError, match="annotations: 1: object 4 stands twice in its video"):
        _tracks(tmp_path, tracks)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_files_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    content = _coco()
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("images", "Bäume")
    text = ("\ufeff" if encoding == "utf-16-le" else "") + json.dumps(content, ensure_ascii=False)
    (tmp_path / "data.json").write_bytes(text.encode(encoding))
    tracks = list(json_objects(tmp_path / "data.json", JsonKeys()))
    assert len(tracks) == 3
    assert tracks[0].image_file_names[0] in ("v1/Bäume/0.bmp", "v2/Bäume/0.bmp")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", "[" * 200_000, '{"a":' * 200_000])
def test_what_json_does_not_have_is_refused_in_little_memory(tmp_path: Path, value: str) -> None:
    (tmp_path / "data.json").write_text(f'{{"images": [{{"id": 1, "x": {value}')
    with pytest.raises(InputError, match="expected JSON in UTF-8, got something else"):
        list(json_objects(tmp_path / "data.json", JsonKeys()))


def _without(content: dict[str, Any], group: str, key: str) -> dict[str, Any]:
    content[group][0].pop(key)
    return content


def _with(content: dict[str, Any], group: str, **values: object) -> dict[str, Any]:
    content[group][1] |= values
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected at least one track, got an empty list"),
        ([{}], "track 0: expected the keys segmentation, "),
        ({"categories": []}, r"expected images \(COCO\) or videos with file_names \(YouTube-VIS\), got neither"),
        (
            _without(_coco(), "annotations", "obj_id"),
            "annotations: 0: expected obj_id or track_id or object_id or instance_id",
        ),
        (_without(_coco(), "annotations", "segmentation"), "annotations: 0: expected segmentation, got the keys"),
        (_without(_coco(), "images", "height"), "images: 0: height: expected an integer, got None"),
        (_with(_coco(), "images", id=_coco()["images"][0]["id"]), "images: expected a different id for each"),
        (_with(_coco(), "annotations", image_id=-1), "annotations: 1: expected an object with the image_id of one"),
        (
            _with(_coco(), "annotations", visible_mask=[[1, 2, "3"]]),
            "annotations: 1: visible_mask: expected run lengths",
        ),
        (_coco() | {"annotations": 2 * _coco()["annotations"]}, "object 5: expected one annotation per image, got two"),
        (_with(_youtube_vis(), "annotations", video_id=1), "annotations: 1: expected an object with the video_id"),
        (_with(_youtube_vis(), "annotations", visible_masks=[None]), "visible_masks: expected a list of 12 masks"),
        (_with(_youtube_vis(), "videos", file_names=None), "videos: 1: expected an object with file_names"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _tracks(tmp_path, content)


def test_numbers_in_attributes_and_slivers_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = _coco()
    for entry in content["annotations"]:
        entry["attributes"] = {"track_id": entry.pop("obj_id")}
        entry["segmentation"] = [[2, 2, 8, 2, 8, 8], [1, 1, 2, 2]]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    found = list(json_objects(path, JsonKeys()))
    assert {item.obj_id for item in found} == {entry["attributes"]["track_id"] for entry in content["annotations"]}
    assert f"{len(content['annotations'])} polygons of fewer than three points are left out" in caplog.text
