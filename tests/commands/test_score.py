"""`amodal-diffusion score`: published files scored again, samples, boxes, result lists, exports, and mistakes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from amodal_diffusion.cli import main
from amodal_diffusion.data.records import TrackRecord, write_records
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.types import BoolArray

FRAMES, HEIGHT, WIDTH = 3, 24, 40


def square(left: int) -> BoolArray:
    """Ten pixels a side, moving right by a pixel a frame."""
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=np.bool_)
    for frame, mask in enumerate(masks):
        mask[6:16, left + frame : left + frame + 10] = True
    return masks


def track(obj_id: int, *, left: int, hidden_rows: int) -> TrackRecord:
    modal = square(left)
    modal[:, 6 : 6 + hidden_rows] = False
    names = [f"clip/{frame}.png" for frame in range(FRAMES)]
    return TrackRecord.from_masks(
        modal, square(left), image_ids=range(FRAMES), image_file_names=names, obj_id=obj_id, category_id=4
    )


def keyed(*tracks: tuple[TrackRecord, BoolArray]) -> dict[str, object]:
    return {
        f"({image}, {record.obj_id})": {"diffvas_res_rle": encode_rle(mask)}
        for record, masks in tracks
        for image, mask in zip(record.image_ids, masks, strict=True)
    }


def exported(*names: str, height: int = HEIGHT) -> dict[str, object]:
    """An object of COCO results, whose images are numbered from 0."""
    images = [{"id": id_, "file_name": name, "height": height, "width": WIDTH} for id_, name in enumerate(names)]
    results = [
        {"image_id": id_, "category_id": 4, "segmentation": encode_rle(square(2)[id_]), "score": 1.0}
        for id_ in range(len(names))
    ]
    return {"images": images, "annotations": results}


def write(path: Path, content: object) -> str:
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.fixture
def records(tmp_path: Path) -> list[TrackRecord]:
    """Two objects of one clip: a fifth of the first is hidden, half of the second."""
    records = [track(1, left=2, hidden_rows=2), track(2, left=22, hidden_rows=5)]
    write_records(tmp_path / "annotations.json", records)
    return records


@pytest.fixture
def predictions(records: list[TrackRecord], tmp_path: Path) -> str:
    """The first object whole, of the second what is seen."""
    content = keyed((records[0], square(2)), (records[1], records[1].modal_masks()))
    return write(tmp_path / "predictions.json", content)


def score(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    out = tmp_path / "out"
    command = ["score", *arguments, "--annotations", str(tmp_path / "annotations.json"), "--out", str(out), "-q"]
    assert main(command) == 0
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return summary


@pytest.mark.skipif("AMODAL_SHARED" not in os.environ, reason="AMODAL_SHARED is not set: no recorded predictions")
@pytest.mark.slow  # without the command: tests/metrics/test_protocols.py
def test_recorded_predictions_score_as_recorded(tmp_path: Path) -> None:
    folder = Path(os.environ["AMODAL_SHARED"]) / "golden" / "metrics"
    (tmp_path / "annotations.json").symlink_to(folder / "annotations.json")
    summary = score(tmp_path, str(folder / "predictions.json"))
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    for protocol in ("strict", "released"):
        for name, value in expected[protocol].items():
            assert summary[protocol][name] == pytest.approx(value, abs=1e-6)


def test_masks_by_key(predictions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = score(tmp_path, predictions)
    assert summary["tracks"] == {"scored": 2, "skipped": {}}
    assert summary["strict"]["miou"] == pytest.approx((1 + 0.5) / 2)
    assert summary["strict"]["miou_occ"] == pytest.approx(1 / 2)
    assert (summary["strict"]["frames"], summary["strict"]["occluded_frames"]) == (6, 6)
    assert summary["released"]["miou_occ"] is None  # two rows do not survive the erosion, and a miss is dropped
    assert summary["boxes"]["above_0.5"] == pytest.approx(1 / 2)  # half a box is not above a half
    assert summary["instability"]["mean"] == 0.0
    assert "best_of_samples" not in summary
    lines = [json.loads(line) for line in (tmp_path / "out" / "tracks.jsonl").read_text().splitlines()]
    assert [line["track"] for line in lines] == ["track 0, object 1, clip/0.png", "track 1, object 2, clip/0.png"]
    assert lines[1]["samples"][0]["strict"]["iou"] == [0.5] * 3
    assert "strict    mIoU 0.7500 over 6 frames, mIoU_occ 0.5000 over 6" in capsys.readouterr().out


def test_several_files_are_samples(records: list[TrackRecord], predictions: str, tmp_path: Path) -> None:
    better = write(tmp_path / "better.json", keyed((records[0], square(2)), (records[1], square(22))))
    summary = score(tmp_path, predictions, better)
    assert summary["samples"] == 2
    assert summary["strict"]["miou"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert summary["best_of_samples"]["strict"]["miou"] == 1.0
    curve = summary["calibration"]
    # Of 150 pixels one of two samples has, all are the object's; the first object's 60 are sure, and right.
    assert curve["pixels"][5] == 3 * 50
    assert curve["observed"][5] == 1.0
    assert curve["expected_calibration_error_where_predicted"] == pytest.approx(150 * 0.5 / (150 + 60))


def test_a_missing_prediction_is_refused_or_said(
    records: list[TrackRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = write(tmp_path / "partial.json", keyed((records[0], square(2))))
    command = ["score", partial, "--annotations", str(tmp_path / "annotations.json"), "--out", str(tmp_path / "out")]
    assert main([*command, "-q"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: track 1, object 2, clip/0.png: ")
    assert "expected an entry (0, 2), got none; give it, or --skip-missing" in error
    assert not (tmp_path / "out").exists()
    summary = score(tmp_path, partial, "--skip-missing")
    assert summary["tracks"]["scored"] == 1
    assert list(summary["tracks"]["skipped"]) == ["track 1, object 2, clip/0.png"]
    assert "1 track(s) without a prediction were left out" in capsys.readouterr().out


def test_exports_are_read_by_other_tools_and_by_score(predictions: str, tmp_path: Path) -> None:
    score(tmp_path, predictions, "--export", "coco,youtube-vis,davis")
    out = tmp_path / "out"
    coco = COCO(str(out / "coco.json"))
    assert len(coco.imgs) == FRAMES
    assert len(coco.anns) == 2 * FRAMES
    np.testing.assert_array_equal(coco.annToMask(coco.anns[1]), square(2)[0])
    assert coco.anns[4]["bbox"] == [22.0, 11.0, 10.0, 5.0]
    assert coco.cats[4]["name"] == "4"

    videos = json.loads((out / "youtube_vis.json").read_text(encoding="utf-8"))
    assert videos["videos"][0]["file_names"] == ["clip/0.png", "clip/1.png", "clip/2.png"]
    assert [entry["track_id"] for entry in videos["annotations"]] == [1, 2]

    read = read_masks(out / "davis" / "00001")
    np.testing.assert_array_equal(np.stack(list(read["1"])), square(2))
    assert Image.open(out / "davis" / "00001" / "2" / "00000.png").mode == "P"

    exported = out.rename(tmp_path / "exported")
    for name, key in (("coco.json", "ap"), ("youtube_vis.json", "video_ap")):
        summary = score(tmp_path, str(exported / name), "--overwrite")
        # One of two objects is whole; the other's IoU is a half, which is enough at the lowest threshold alone.
        assert summary[key]["ap50"] == pytest.approx(1.0)
        assert summary[key]["ar100"] == pytest.approx((10 + 1) / 20)


@pytest.mark.usefixtures("records")
def test_result_lists_of_instance_systems(tmp_path: Path) -> None:
    def result(left: int, value: float) -> dict[str, object]:
        masks = [encode_rle(mask) for mask in square(left)]
        return {"video_id": 1, "category_id": 9, "segmentations": [*masks[:2], None], "score": value}

    # Two of three frames: IoU 2 / 3, found at four of ten thresholds; what is nowhere scores best.
    summary = score(tmp_path, write(tmp_path / "r.json", [result(2, 0.5), result(22, 0.4), result(12, 0.9)]))
    assert summary["video_ap"]["ar100"] == pytest.approx(4 / 10)
    assert summary["video_ap"]["ap50"] == pytest.approx(2 / 3)
    assert summary["video_ap"]["instances"] == 2
    frames = [
        {"image_id": frame, "category_id": 9, "segmentation": encode_rle(mask), "score": 0.5}
        for frame, mask in enumerate(square(2))
    ]
    images = score(tmp_path, write(tmp_path / "i.json", frames), "--overwrite")
    assert images["ap"]["ar100"] == pytest.approx(1 / 2)
    assert images["ap"]["instances"] == 6


@pytest.mark.usefixtures("records")
def test_results_on_images_of_other_data_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictions = write(tmp_path / "p.json", exported("frames/clip/0.jpg", "clip/1.png", "elsewhere/2.png"))
    summary = score(tmp_path, predictions)
    assert summary["ap"]["ar100"] == pytest.approx(2 / 6)  # the third is as good
    assert summary["images_left_out"] == 1
    assert any("2 of 3 images are in" in message for message in caplog.messages)


def test_annotations_of_kins_and_plain_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, half = square(2)[0], square(2)[0].copy()
    half[6:9] = False  # 3 of 10 rows
    image = {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}
    objects = [{"image_id": 7, "category_id": 2, "a_segm": encode_rle(whole), "i_segm": encode_rle(half)}]
    write(tmp_path / "annotations.json", {"images": [image], "annotations": objects})
    results = [{"image_id": 7, "category_id": 2, "segmentation": encode_rle(whole), "score": 0.5}]
    predictions = write(tmp_path / "results.json", results)
    found = score(tmp_path, predictions)["ap"]
    assert (found["ap"], found["ar1"], found["instances"]) == pytest.approx((1.0, 1.0, 1))
    assert found["ap50_by_occlusion"]["medium"] == pytest.approx(1.0)
    assert "AP50 by range: small size 1.0000, medium size -" in capsys.readouterr().out

    plain = [{"image_id": 7, "category_id": 2, "segmentation": encode_rle(whole)}]
    write(tmp_path / "annotations.json", {"images": [image], "annotations": plain})
    found = score(tmp_path, predictions, "--overwrite")["ap"]
    assert (found["ap"], found["ap50_by_occlusion"]["medium"]) == (pytest.approx(1.0), None)


def test_annotations_of_video_instances(tmp_path: Path) -> None:
    video = {"id": 3, "height": HEIGHT, "width": WIDTH, "length": FRAMES, "file_names": ["0", "1", "2"]}
    masks = [*(encode_rle(mask) for mask in square(2)[:2]), None]
    annotations = [{"video_id": 3, "category_id": 1, "segmentations": masks, "occlude_rate": [0.1, 0.4, None]}]
    write(tmp_path / "annotations.json", {"videos": [video], "annotations": annotations})
    results = [{"video_id": 3, "category_id": 1, "segmentations": [masks[0], None, None], "score": 1.0}]
    found = score(tmp_path, write(tmp_path / "results.json", results))["video_ap"]
    assert (found["ap"], found["ap50"]) == pytest.approx((1 / 10, 1.0))  # 1 / 2 of the track
    assert found["ap50_by_occlusion"] == {"partial": None, "medium": pytest.approx(1.0), "heavy": pytest.approx(1.0)}


def test_boxes_of_tao_amodal(tmp_path: Path) -> None:
    entry = {
        "track_id": 21, "category_id": 1, "video_id": 5, "file_names": ["val/a/f1.jpg", "val/a/f2.jpg"],
        "rles": ["P6", "P6"], "height": 10, "width": 20, "amodal_bboxes": [[-4, 0, 8, 4], [0, 0, 4, 4]],
    }  # fmt: skip
    write(tmp_path / "annotations.json", [entry])
    boxes = {"f1.jpg": [-4, 0, 8, 4], "f2.jpg": [0, 0, 2, 4]}
    content = {f"(5, '{name}', '2')": {"diffvas_res_bbox": box} for name, box in boxes.items()}
    first = write(tmp_path / "first.json", {"5": 20})
    summary = score(tmp_path, write(tmp_path / "p.json", content), "--track-ids", first)
    assert summary["boxes"]["miou"] == pytest.approx(3 / 4)
    assert [summary["boxes"][f"above_{threshold}"] for threshold in (0.25, 0.5, 0.75)] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("content", "extra", "message"),
    [
        ({}, ["--export", "png"], "error: export: expected coco, youtube-vis, davis, got png"),
        ([{"score": 1}], [], "error: "),
        ([{"image_id": 99, "segmentation": None, "score": 1}], [], "error: predictions: 0 of 1 images of "),
        # The numbers are those of other frames, as the numbers of two data sets often are.
        (exported("elsewhere/0.png"), [], "give the annotations that were evaluated"),
        (exported("clip/0.png", height=25), [], "by number, file name and size"),
        (keyed((track(7, left=2, hidden_rows=2), square(2))), ["--skip-missing"], "error: predictions: 0 of 2 tracks"),
        ([{"image_id": 0, "segmentation": None}], [], "score: expected a number, got None"),
        ([{"video_id": 1, "segmentations": [None], "score": 1}], [], "segmentations: expected 3 masks"),
        ([{"image_id": 0, "segmentation": None, "score": 1}], ["--export", "coco"], "not exported"),
    ],
)
@pytest.mark.usefixtures("records")
def test_a_mistake_is_one_line(
    content: object, extra: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["score", write(tmp_path / "p.json", content), "--annotations", str(tmp_path / "annotations.json")]
    assert main([*command, "--out", str(tmp_path / "out"), "-q", *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--annotations", str(tmp_path / "a.json"), "--out", str(tmp_path / "out")]
    assert main(["score", str(tmp_path / "p.json"), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'a.json'}: no such file")
