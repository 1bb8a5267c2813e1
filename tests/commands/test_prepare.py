"""`amodal-diffusion prepare` and `validate`: from a folder of pictures to a data set, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.cli import main
from amodal_diffusion.data.records import read_records


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "scenes"
    size = ["--frames", "8", "--height", "32", "--width", "48"]
    assert main(["scenes", str(out), "--count", "2", "--masks", "-q", *size]) == 0
    return out


def _prepare(source: Path, out: Path, *more: str) -> int:
    return main(["prepare", str(source), "--out", str(out), "-q", *more])


def test_mask_pictures_become_the_records_that_the_scenes_have(scenes: Path, tmp_path: Path) -> None:
    assert _prepare(scenes, tmp_path / "own", "--frames", "8", "--min-present", "0") == 0
    truth, own = (read_records(folder / "annotations.json") for folder in (scenes, tmp_path / "own"))
    assert len(own) == len(truth)
    for record, expected in zip(own, truth, strict=True):
        assert (record.obj_id, record.image_file_names) == (expected.obj_id, expected.image_file_names)
        np.testing.assert_array_equal(record.modal_masks(), expected.modal_masks())
        np.testing.assert_array_equal(record.amodal_masks(), expected.amodal_masks())


def test_what_it_writes_is_sound_and_the_summary_says_what_was_left_out(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    assert _prepare(scenes, own, "--frames", "3", "--occlusion", "0.2", "0.9", "--min-size", "2") == 0
    printed = capsys.readouterr().out
    clips, complete = (len(read_records(own / name)) for name in ("annotations.json", "complete_objects.json"))
    assert f"{own / 'annotations.json'}: {clips} clips of" in printed
    assert f"{own / 'complete_objects.json'}: {complete} clips of which more than 95 %" in printed
    assert "outside the range of occlusion" in printed
    assert clips > 0
    assert complete > 0
    for name in ("", "complete_objects.json"):
        assert main(["validate", str(own / name), "--images", str(scenes), "-q"]) == 0
        printed = capsys.readouterr().out
        assert "no problems found" in printed
        assert "0.2 to 0.3" in printed


def test_coco_and_folders_give_the_same_clips(scenes: Path, tmp_path: Path) -> None:
    records = read_records(scenes / "annotations.json")
    names = {i: name for r in records for i, name in zip(r.image_ids, r.image_file_names, strict=True)}
    images = [{"id": i, "file_name": name, "height": 32, "width": 48} for i, name in names.items()]
    annotations = [
        {"image_id": i, "obj_id": r.obj_id, "category_id": 1, "segmentation": amodal, "visible_mask": modal}
        for r in records
        for i, amodal, modal in zip(r.image_ids, r.segmentation, r.visible_mask, strict=True)
    ]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    for source, out in ((tmp_path / "coco.json", "from-coco"), (scenes, "from-folders")):
        assert _prepare(source, tmp_path / out, "--frames", "4", "--stride", "2") == 0
    one, other = (read_records(tmp_path / out / "annotations.json") for out in ("from-coco", "from-folders"))
    assert one == other


def test_validate_lists_what_is_wrong_and_exits_1(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = json.loads((scenes / "annotations.json").read_text())
    entries[0]["visible_mask"][0]["counts"] = "?"
    entries[1]["image_file_names"][2] = "train-000000/images/none.png"
    (tmp_path / "damaged.json").write_text(json.dumps(entries))
    command = ["validate", str(tmp_path / "damaged.json"), "--images", str(scenes), "-q"]
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["run lengths", "frame"]
    assert lines[-1] == "problems: 2 (run lengths 1, frame 1)"
    assert main([*command, "--skip-images"]) == 1
    assert "problems: 1 (run lengths 1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "9"], "not one clip of"),
        (["--fps", "4"], "fps: expected above 0 and at most source_fps, got 4.0 of None"),
        (["--object", "id"], "object: expected none for a folder, got id"),
        (["--modal", "none"], "no such file or folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    scenes: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _prepare(scenes, tmp_path / "own", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_missing_sources_and_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _prepare(tmp_path / "none", tmp_path / "own") == 2
    assert "none: no such file or folder" in capsys.readouterr().err
    (tmp_path / "data.json").write_text("{}")
    assert _prepare(tmp_path / "data.json", tmp_path / "own", "--images", "frames") == 2
    assert "images: expected none for a JSON file, got frames" in capsys.readouterr().err
    assert main(["validate", str(tmp_path), "-q"]) == 2
    assert "annotations.json: cannot be read" in capsys.readouterr().err
    assert main(["validate", str(tmp_path), "--images", str(tmp_path / "none"), "-q"]) == 2
    assert "images: expected the folder that the frames' paths start from" in capsys.readouterr().err
