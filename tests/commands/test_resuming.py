"""`complete` that is broken off inside an object goes on after its last finished frame, and gives the same files."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from amodal_diffusion.cli import main
from amodal_diffusion.completion import objects
from amodal_diffusion.io.images import write_mask_png, write_rgba_png
from amodal_diffusion.pipelines import appearance_stream, mask_stream
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.pipelines.streams import StreamSettings
from amodal_diffusion.pipelines.window_sampling import sample_window
from tests.commands.folders import contents
from tests.factories import tiny_completer_folder
from tests.media import Bool, UInt8, moving_disc, write_frames, write_masks

FRAMES = 16  # windows of 4 that share one
BAR = np.s_[:, :, 18:22]
Windows = list[tuple[str, int, int]]  # stage, first frame, one past the last


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def inputs(tmp_path: Path, model: Path) -> list[str]:
    """Arguments for a disc behind a bar that is nearer."""
    rgb, mask = moving_disc(FRAMES, 24, 40)
    depth = np.where(mask, 0.5, 0.0).astype(np.float32)
    depth[BAR], mask[BAR] = 1.0, False
    np.save(tmp_path / "depth.npy", depth)
    write_masks(tmp_path / "masks" / "cup", mask)
    given = {"masks": tmp_path / "masks", "model": model, "device": "cpu", "steps": 1, "depth": tmp_path / "depth.npy"}
    return [str(write_frames(tmp_path / "frames", rgb)), *(f"--{name}={value}" for name, value in given.items())]


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    """The windows that the networks are asked for."""
    asked: Windows = []

    def counted(
        pipeline: ConditionedVideoPipeline,
        modal: Tensor,
        guide: Tensor | None,
        settings: StreamSettings,
        *,
        start: int,
        backwards: bool = False,
    ) -> Tensor:
        asked.append((str(pipeline.stage), start, start + modal.shape[1]))
        return sample_window(pipeline, modal, guide, settings, start=start, backwards=backwards)

    for stage in (mask_stream, appearance_stream):
        monkeypatch.setattr(stage, "sample_window", counted)
    return asked


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (0, ("--spans=all",)),
        (4, ("--spans=all", "--samples=2")),
        (9, ("--spans=all", "--copies=on")),
        (11, ("--spans=auto", "--formats=webm,masks-mp4")),
        (FRAMES - 1, ("--spans=all", "--stages=masks")),
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

    def interrupt(path: Path, mask: Bool) -> None:
        if path.parts[-2:] == ("amodal_masks", f"{frame:05d}.png"):
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        write_mask_png(path, mask)

    monkeypatch.setattr(objects, "write_mask_png", interrupt)
    assert main(["complete", *inputs, "--out", str(out), *options]) == 130
    assert (tmp_path / "out.partial").is_dir() == (frame > 0)
    monkeypatch.setattr(objects, "write_mask_png", write_mask_png)
    windows.clear()
    capfd.readouterr()
    assert main(["complete", *inputs, "--out", str(out), *options]) == 0
    assert (f"object cup: goes on at frame {frame} of {FRAMES}" in capfd.readouterr().err) == (frame > 0)
    assert windows == [window for window in every if window[2] > frame]
    assert contents(out) == contents(whole)


def test_a_full_disk_inside_an_object(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, layer: UInt8) -> None:
        if path.name == "00009.png":
            raise OSError(errno.ENOSPC, "full")
        write_rgba_png(path, layer)

    monkeypatch.setattr(objects, "write_rgba_png", full)
    assert main(["complete", *inputs, "--out", str(tmp_path / "out"), "-q"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "no room left to write" in error
    monkeypatch.undo()
    assert main(["complete", *inputs, "--out", str(tmp_path / "out")]) == 0
    assert "goes on at frame 9 of" in capfd.readouterr().err
    assert main(["complete", *inputs, "--out", str(tmp_path / "whole"), "-q"]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_frame_whose_file_is_gone_has_the_object_done_again(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(path: Path, layer: UInt8) -> None:
        if path.name == "00009.png":
            raise KeyboardInterrupt
        write_rgba_png(path, layer)

    monkeypatch.setattr(objects, "write_rgba_png", interrupt)
    assert main(["complete", *inputs, "--out", str(tmp_path / "out")]) == 130
    monkeypatch.undo()
    (tmp_path / "out.partial" / "objects" / "cup" / "completed" / "00002.png").unlink()
    capfd.readouterr()
    assert main(["complete", *inputs, "--out", str(tmp_path / "out")]) == 0
    assert "goes on" not in capfd.readouterr().err


KILLED_RUN = """
import os, signal, sys
from amodal_diffusion.cli import main

left = int(sys.argv.pop(1))

def die(event, arguments):
    global left
    if event in ("open", "os.rename") and ".partial" in str(arguments[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 3])
def test_killed_at_random_moments(tmp_path: Path, inputs: list[str], at_once: int) -> None:
    """The real command, killed where it opens or renames some file, again and again, then left alone."""
    for number in range(2, at_once + 2):
        write_masks(tmp_path / "masks" / str(number), np.roll(moving_disc(FRAMES, 24, 40)[1], 5 * number, axis=2))
    chance, errors = random.Random(6), []
    arguments = ["complete", *inputs, "--spans=all", "--samples=2", f"--objects-at-once={at_once}"]
    for _ in range(4):
        command = [sys.executable, "-c", KILLED_RUN, str(chance.randint(20, 80)), *arguments, "--out", tmp_path / "out"]
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=250)
        assert run.returncode == -signal.SIGKILL
        errors.append(run.stderr)
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert sum("goes on at frame" in error for error in errors) >= 2
    assert main([*arguments, "--objects-at-once=1", "--out", str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
