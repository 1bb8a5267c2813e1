"""`complete` that is broken off inside an object goes on after its last finished frame, and gives the same files."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from amodal_diffusion.cli import main
from amodal_diffusion.completion import objects
from amodal_diffusion.io.images import write_mask_png, write_rgba_png
from amodal_diffusion.io.result_folder import MANIFEST
from amodal_diffusion.pipelines import amodal_segmentation, content_completion
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline, WindowRequest, sample_windows
from tests.commands.folders import contents, discs_behind_a_bar, ended_by_a_signal, fail_at
from tests.media import UInt8, moving_disc, write_masks

FRAMES = 10  # windows of 4 that share one
Windows = list[tuple[str, int, int]]  # stage, first frame, one past the last


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[str]:
    """Arguments for a disc behind a bar that is nearer."""
    return discs_behind_a_bar(tmp_path_factory.mktemp("clip"), model, FRAMES, {"cup": 0})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, inputs: list[str]) -> Path:
    """What an undisturbed command gives."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(["complete", *inputs, "--out", str(out), "-q"]) == 0
    return out


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    """The windows that the networks are asked for."""
    asked: Windows = []

    def counted(
        pipeline: ConditionedVideoPipeline, requests: Sequence[WindowRequest], *settings: Any, **options: Any
    ) -> list[Tensor]:
        asked.extend((str(pipeline.stage), entry.start, entry.start + len(entry.modal)) for entry in requests)
        return sample_windows(pipeline, requests, *settings, **options)

    for stage in (amodal_segmentation, content_completion):
        monkeypatch.setattr(stage, "sample_windows", counted)
    return asked


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (0, ()),
        (4, ("--samples=2",)),
        pytest.param(5, ("--color-propagation",), marks=pytest.mark.slow),
        pytest.param(7, ("--skip-unoccluded", "--formats=webm,masks-mp4"), marks=pytest.mark.slow),
        (FRAMES - 1, ("--stages=masks",)),
    ],
)
def test_finished_windows_are_not_sampled_again(
    tmp_path: Path,
    inputs: list[str],
    windows: Windows,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    frame: int,
    options: tuple[str, ...],
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main(["complete", *inputs, "--out", str(whole), *options]) == 0
    every = list(windows)
    monkeypatch.setattr(objects, "write_mask_png", fail_at("cup", frame, KeyboardInterrupt()))
    assert main(["complete", *inputs, "--out", str(out), *options]) == 130
    assert (tmp_path / "out.partial").is_dir() == (frame > 0)
    monkeypatch.setattr(objects, "write_mask_png", write_mask_png)
    windows.clear()
    capfd.readouterr()
    assert main(["complete", *inputs, "--out", str(out), *options]) == 0
    assert (f"object cup: resumes at frame {frame} of {FRAMES}" in capfd.readouterr().err) == (frame > 0)
    assert windows == [window for window in every if window[2] > frame]
    assert contents(out) == contents(whole)


def at_layer(name: str, error: BaseException) -> Callable[[Path, UInt8], None]:
    """In place of `write_rgba_png`: an error at one frame."""

    def write(path: Path, layer: UInt8) -> None:
        if path.name == name:
            raise error
        write_rgba_png(path, layer)

    return write


def test_a_full_disk_inside_an_object(
    tmp_path: Path, inputs: list[str], whole: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(objects, "write_rgba_png", at_layer("00005.png", OSError(errno.ENOSPC, "full")))
    assert main(["complete", *inputs, "--out", str(tmp_path / "out"), "-q"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "no room left to write" in error
    monkeypatch.undo()
    assert main(["complete", *inputs, "--out", str(tmp_path / "out")]) == 0
    assert "resumes at frame 5 of" in capfd.readouterr().err
    assert contents(tmp_path / "out") == contents(whole)


def test_a_frame_whose_file_is_gone_has_the_object_done_again(
    tmp_path: Path, inputs: list[str], whole: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(objects, "write_rgba_png", at_layer("00005.png", KeyboardInterrupt()))
    assert main(["complete", *inputs, "--out", str(tmp_path / "out")]) == 130
    monkeypatch.undo()
    (tmp_path / "out.partial" / "objects" / "cup" / "completed" / "00002.png").unlink()
    capfd.readouterr()
    assert main(["complete", *inputs, "--out", str(tmp_path / "out")]) == 0
    assert "goes on" not in capfd.readouterr().err
    assert contents(tmp_path / "out") == contents(whole)


def test_what_version_0_1_began_is_refused(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    monkeypatch.setattr(objects, "write_mask_png", fail_at("cup", 5, KeyboardInterrupt()))
    assert main(["complete", *inputs, "--out", str(out), "-q"]) == 130
    monkeypatch.undo()
    manifest = json.loads((partial / MANIFEST).read_text())
    old = {"guards": None, "spans": "auto", "expand": 0.0, "copies": None, "solver": None, "version": "0.1.0"}
    new = ("mask_filters", "skip_unoccluded", "margin", "color_propagation", "scheduler", "fit", "resample", "tta")
    kept = {name: value for name, value in manifest["settings"].items() if name not in new}
    (partial / MANIFEST).write_text(json.dumps({**manifest, "settings": {**kept, **old}}))
    capfd.readouterr()
    assert main(["complete", *inputs, "--out", str(out), "-q"]) == 2
    assert capfd.readouterr().err == (
        f"error: out: {partial}: begun by version 0.1, which this version cannot go on from; finish it with version "
        "0.1, choose another folder, or --overwrite to begin anew\n"
    )
    assert (partial / "objects" / "cup" / "amodal_masks" / "00004.png").is_file()
    assert main(["complete", *inputs, "--out", str(out), "-q", "--overwrite"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_killed_at_random_moments(
    tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str], batch: int
) -> None:
    """The command, killed where it opens or renames some file, again and again, then left alone."""
    masks = next(argument for argument in inputs if argument.startswith("--masks="))
    write_masks(tmp_path / "masks" / "cup", moving_disc(FRAMES, 24, 40)[1])
    for number in range(2, batch + 2):
        write_masks(tmp_path / "masks" / str(number), np.roll(moving_disc(FRAMES, 24, 40)[1], 5 * number, axis=2))
    arguments = ["complete", *(text for text in inputs if text != masks), f"--masks={tmp_path / 'masks'}"]
    chance, out = random.Random(6), ["--out", str(tmp_path / "out")]
    for _ in range(4):
        assert ended_by_a_signal(killed_at_file(chance.randint(60, 140)), [*arguments, *out, f"--object-batch={batch}"])
    assert main([*arguments, *out]) == 0
    assert capfd.readouterr().err.count("resumes at frame") >= 1  # where the pool was when it was killed
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def killed_at_file(number: int) -> Callable[[], None]:
    """For `ended_by_a_signal`: a kill where so many files of unfinished results have been opened or renamed."""

    def prepare() -> None:
        left = number

        def die(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in ("open", "os.rename") and ".partial" in str(arguments[0]):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)

    return prepare
