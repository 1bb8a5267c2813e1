"""A result in memory goes to files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion import saving
from amodal_diffusion.io.video_reader import read_clip
from amodal_diffusion.types import AmodalResult
from tests.media import moving_disc

RGB, MASK = moving_disc(4, 24, 40)
RGBA = np.dstack([RGB.reshape(-1, 40, 3), MASK.reshape(-1, 40)[..., None] * np.uint8(255)]).reshape(4, 24, 40, 4)
RGBA[~MASK] = 0
RESULT = AmodalResult(MASK, rgba=RGBA, score=np.full((4, 8, 16), 0.5, np.float32))


def test_every_format_of_one_object(tmp_path: Path) -> None:
    folder = RESULT.save(tmp_path / "out", "png,prores,webm,mp4,gif,masks-mp4,scores", fps=5, color="blue")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "amodal_masks", "completed", "scores", "amodal_masks.mp4", "completed.mov", "completed.webm", "completed.mp4",
        "completed.gif",
    }  # fmt: skip
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "amodal_masks/00002.png")) > 0, MASK[2])
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "completed/00003.png")), RGBA[3])
    assert np.asarray(Image.open(folder / "scores/00000.png")).max() == 32768
    video, fps = read_clip(folder / "completed.mp4")
    assert (len(video), fps) == (4, 5)
    assert video[0, 0, 0].tolist()[2] > 200  # blue


def test_masks_alone_and_what_is_refused(tmp_path: Path) -> None:
    masks = replace(RESULT, rgba=None, score=None)
    assert {path.name for path in masks.save(tmp_path / "out").iterdir()} == {"amodal_masks"}
    for formats, message in (
        ("mov", "did you mean prores"),
        ("coco", "formats: expected some of .* got coco; coco holds .* the command `complete` writes it"),
        ("youtubevis", "got youtubevis; youtube-vis holds .* the command `complete` writes it"),
        ("webm", "formats: webm holds layers, and this result has masks alone"),
        ("scores", "formats: this result has no scores"),
    ):
        with pytest.raises(InputError, match=message):
            masks.save(tmp_path / "other", formats)
    with pytest.raises(InputError, match="exists; give another folder, or overwrite=True"):
        masks.save(tmp_path / "out")
    assert RESULT.save(tmp_path / "out", overwrite=True) == tmp_path / "out"
    assert (tmp_path / "out/completed").is_dir()
    assert not (tmp_path / "other").exists()


def test_only_files_of_results_are_replaced(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "wedding.jpg").write_text("precious")
    with pytest.raises(InputError, match=r"photos: holds wedding\.jpg, which is no file of a result"):
        RESULT.save(photos, overwrite=True)
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(InputError, match="file: a file is in the way; give another folder"):
        RESULT.save(file, overwrite=True)
    for name in ("out.partial", "out.replaced"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("precious")
    RESULT.save(tmp_path / "out", "png,gif,mp4,scores")
    RESULT.save(tmp_path / "out", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "file", "out", "out.partial", "out.replaced"}
    kept = [photos / "wedding.jpg", file, tmp_path / "out.partial/notes.txt", tmp_path / "out.replaced/notes.txt"]
    assert {path.read_text() for path in kept} == {"precious"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"amodal_masks", "completed"}


def test_files_that_come_meanwhile_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = saving._write_pictures

    def slow(result: AmodalResult, folder: Path, formats: Sequence[Any]) -> None:
        written(result, folder, formats)
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/wedding.jpg").write_text("precious")

    with monkeypatch.context() as patch:
        patch.setattr(saving, "_write_pictures", slow)
        with pytest.raises(OSError, match="not empty"):
            RESULT.save(tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        (tmp_path / "out/wedding.jpg").unlink()
        RESULT.save(tmp_path / "out", overwrite=True)
    (aside,) = tmp_path.glob("out.*.replaced")
    assert (aside / "wedding.jpg").read_text() == "precious"
    assert "files came into it while it was replaced" in caplog.text


def test_what_file_managers_leave_is_no_hindrance(tmp_path: Path) -> None:
    RESULT.save(tmp_path / "out")
    (tmp_path / "out/.DS_Store").write_text("view")
    RESULT.save(tmp_path / "out", overwrite=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: a file is in the way"):
        RESULT.save(tmp_path / "pipe", overwrite=True)


def test_a_link_keeps_leading_to_its_folder(tmp_path: Path) -> None:
    RESULT.save(tmp_path / "far")
    (tmp_path / "link").symlink_to(tmp_path / "far")
    RESULT.save(tmp_path / "link", "gif", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far/completed.gif").is_file()


@pytest.mark.parametrize("path", [".", "", "/", ".."])
def test_a_folder_without_a_name_is_refused(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="path: expected a folder of its own"):
        RESULT.save(path, overwrite=True)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9, "8"])
def test_a_wrong_frame_rate_is_refused_before_any_work(fps: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fps: expected a frame rate above 0"):
        RESULT.save(tmp_path / "out", "mp4,gif", fps=fps)
    assert not list(tmp_path.iterdir())
