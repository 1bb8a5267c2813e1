"""`amodal-diffusion scenes`: what it writes agrees with the generator, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.data.composites import CompositeDataset, CompositeOptions
from amodal_diffusion.data.records import read_records
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.synthetic.composites import frozen
from amodal_diffusion.synthetic.composites.made import made_cutouts
from amodal_diffusion.synthetic.composites.tool_errors import ErrorShares
from tests.factories import tiny_cutouts_folder

SIZE = ["--frames", "2", "--height", "32", "--width", "48"]


def _run(out: Path, *more: str) -> int:
    return main(["scenes", str(out), "--count", "3", "-q", *SIZE, *more])


def test_files_agree_with_the_generator(tmp_path: Path) -> None:
    out = tmp_path / "clips"
    assert _run(out) == 0
    records = read_records(out / "annotations.json")
    for number in range(3):
        scene = make_scene(number, split="train", frames=2, height=32, width=48)
        mine = [r for r in records if r.image_file_names[0].startswith(scene.name)]
        shown = [track for track in scene.tracks if track.modal.any()]
        assert [r.obj_id for r in mine] == [track.track_id for track in shown]
        assert scene.rgb is not None
        for record, track in zip(mine, shown, strict=True):
            np.testing.assert_array_equal(record.modal_masks(), track.modal)
            np.testing.assert_array_equal(record.amodal_masks(), track.amodal)
            assert track.rgb is not None
            for frame, name in enumerate(record.image_file_names):
                np.testing.assert_array_equal(np.asarray(Image.open(out / name)), scene.rgb[frame])
                whole = out / scene.name / "objects" / str(track.track_id) / f"{frame:05d}.png"
                np.testing.assert_array_equal(np.asarray(Image.open(whole)), track.rgb[frame])
        depth = np.stack([np.asarray(Image.open(path)) for path in sorted((out / scene.name / "depth").iterdir())])
        assert (depth.min(), depth.max()) == (0, 65535)
        order = np.argsort(scene.depth, axis=None)
        assert (np.diff(depth.ravel()[order].astype(np.int64)) >= 0).all()


def test_image_ids_are_unique_over_the_clips(tmp_path: Path) -> None:
    assert _run(tmp_path / "clips") == 0
    keys = [(i, r.obj_id) for r in read_records(tmp_path / "clips" / "annotations.json") for i in r.image_ids]
    assert len(keys) == len(set(keys))


def test_it_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert _run(whole) == 0

    def stop(*_arguments: object, **_keywords: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("amodal_diffusion.data.scene_export.write_scene", stop)
        assert _run(broken) == 130
    assert not broken.exists()
    assert _run(broken) == 0
    for path in whole.rglob("*.png"):
        assert (broken / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert (broken / "annotations.json").read_bytes() == (whole / "annotations.json").read_bytes()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert _run(tmp_path) == 2
    assert "not empty" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_overwrite_replaces_earlier_clips(tmp_path: Path) -> None:
    out = tmp_path / "clips"
    assert _run(out) == 0
    assert _run(out, "--seed", "1", "--overwrite") == 0
    assert not (out / "train-000000").exists()


def test_test_v1_comes_as_it_is_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path / "clips", "--split", "test-v1") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: test-v1 is fixed")
    assert error.count("\n") == 1


def test_a_split_needs_a_number_of_clips_unless_it_is_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenes", str(tmp_path / "clips")]) == 2
    assert "--count: expected a number of clips for --split train, got none" in capsys.readouterr().err


def test_composites_are_written_as_scenes_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amodal_diffusion.data.composites.made_cutouts", lambda split, _: made_cutouts(split, 1))
    cutouts, out = tiny_cutouts_folder(tmp_path / "cutouts"), tmp_path / "clips"
    made = ("--split", "composites-validation", "--cutouts", str(cutouts), "--masks")
    assert _run(out, *made) == 0
    records = list(read_records(out / "annotations.json"))
    options = CompositeOptions(errors=ErrorShares())
    clips = CompositeDataset(cutouts, 3, 2, 32, 48, split="validation", options=options)
    for number, record in enumerate(records):
        sample = clips[number]
        assert record.image_file_names[0] == f"{sample.name}/images/00000.png"
        np.testing.assert_array_equal(record.modal_masks(), sample.modal)
        np.testing.assert_array_equal(record.amodal_masks(), sample.amodal)
        assert sample.rgb is not None
        assert sample.whole_rgb is not None
        for frame in range(2):
            read = np.asarray(Image.open(out / record.image_file_names[frame]))
            np.testing.assert_array_equal(read, sample.rgb[frame])
            whole = out / sample.name / "objects/1" / f"{frame:05d}.png"
            np.testing.assert_array_equal(np.asarray(Image.open(whole)), sample.whole_rgb[frame])
            assert (out / sample.name / "amodal/1" / f"{frame:05d}.png").is_file()


def test_test_v2_without_its_sources_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = tiny_cutouts_folder(tmp_path / "cutouts")
    for cutouts, expected in (([], "got none"), (["--cutouts", str(some)], "needs pictures that are missing here")):
        assert main(["scenes", str(tmp_path / "clips"), "--split", "test-v2", "-q", *cutouts]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert expected in error
        assert "of openclipart-png 0.18" in error
        assert not (tmp_path / "clips").exists()
    assert _run(tmp_path / "clips", "--cutouts", str(some)) == 2
    assert "--cutouts: expected none for --split train" in capsys.readouterr().err


def test_test_v2_is_compared_with_its_digests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sources of its own in the place of the frozen ones, the same command accepts their clips and no others."""
    cutouts, out = tiny_cutouts_folder(tmp_path / "cutouts"), tmp_path / "clips"
    for name, value in (("FRAMES", 2), ("HEIGHT", 32), ("WIDTH", 48), ("MADE", 1), ("CLIPS", 2)):
        monkeypatch.setattr(frozen, name, value)
    monkeypatch.setattr(frozen, "FILE", tmp_path / "test_v2.json")
    frozen.frozen_split.cache_clear()
    try:
        frozen.freeze(cutouts, clips=2)
        command = ["scenes", str(out), "--split", "test-v2", "--cutouts", str(cutouts), "--frames", "2", "-q"]
        assert main(command) == 0
        assert "2 clips" in capsys.readouterr().out
        stored = json.loads(frozen.FILE.read_text())
        stored["clips"][1]["sha256"] = "0" * 64
        frozen.FILE.write_text(json.dumps(stored))
        frozen.frozen_split.cache_clear()
        assert main([*command, "--overwrite"]) == 2
        assert "frames or masks differ from those of test_v2.json" in capsys.readouterr().err
    finally:
        frozen.frozen_split.cache_clear()
