"""`complete --objects-at-once`: the same files, also after an interruption; one error ends all with one line."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.cli import main
from amodal_diffusion.completion import objects
from amodal_diffusion.io.images import write_mask_png
from amodal_diffusion.io.result_folder import MANIFEST
from amodal_diffusion.types import InputError
from tests.commands.folders import contents
from tests.factories import tiny_completer_folder
from tests.media import Bool, moving_disc, write_frames, write_masks

FRAMES = 10  # windows of 4 that share one
OBJECTS = ("cup", "jug", "pot", "tin")
BAR = np.s_[:, :, 18:22]
THREE = "--objects-at-once=3"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def inputs(tmp_path: Path, model: Path) -> list[str]:
    """Arguments for four discs that pass behind a bar at times of their own."""
    rgb, disc = moving_disc(FRAMES, 24, 40)
    depth = np.where(disc, 0.5, 0.0).astype(np.float32)
    depth[BAR] = 1.0
    np.save(tmp_path / "depth.npy", depth)
    for number, name in enumerate(OBJECTS):
        mask = np.roll(disc, 4 * number - 6, axis=2)
        mask[BAR] = False
        write_masks(tmp_path / "masks" / name, mask)
    given = {"masks": tmp_path / "masks", "model": model, "device": "cpu", "steps": 1, "depth": tmp_path / "depth.npy"}
    return [str(write_frames(tmp_path / "frames", rgb)), *(f"--{name}={value}" for name, value in given.items()), "-q"]


def complete(inputs: list[str], out: Path, *options: str) -> int:
    return main(["complete", *inputs, "--out", str(out), *options])


def fail_at(name: str, frame: int, error: BaseException) -> Callable[[Path, Bool], None]:
    """In place of `write_mask_png`: an error at one frame of one object."""

    def write(path: Path, mask: Bool) -> None:
        if path.parts[-3:] == (name, "amodal_masks", f"{frame:05d}.png"):
            raise error
        write_mask_png(path, mask)

    return write


@pytest.mark.parametrize("options", [("--spans=all", "--samples=2"), ("--spans=auto", "--copies=on")])
def test_the_same_files_however_many_at_once(tmp_path: Path, inputs: list[str], options: tuple[str, ...]) -> None:
    assert complete(inputs, tmp_path / "one", *options) == 0
    assert complete(inputs, tmp_path / "three", *options, THREE) == 0
    assert contents(tmp_path / "three") == contents(tmp_path / "one")
    one, three = ((tmp_path / name / MANIFEST).read_text() for name in ("one", "three"))
    assert one == three
    seconds = json.loads((tmp_path / "three" / "summary.json").read_text())["objects"]
    assert all(seconds[name]["seconds"]["amodal_segmentation"] > 0 for name in OBJECTS)


def test_an_interruption_with_three_at_once(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, talkative = tmp_path / "out", inputs[:-1]
    before = threading.active_count()
    for name, frame in (("jug", 5), ("pot", 8)):
        monkeypatch.setattr(objects, "write_mask_png", fail_at(name, frame, KeyboardInterrupt()))
        assert complete(inputs, out, THREE, "--spans=all") == 130
        assert threading.active_count() == before
    monkeypatch.undo()
    capfd.readouterr()
    assert complete(talkative, out, THREE, "--spans=all") == 0
    assert f"goes on at frame 8 of {FRAMES}" in capfd.readouterr().err
    assert complete(inputs, tmp_path / "whole", "--spans=all") == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("masks: jug: changed while being read"), "error: masks: jug: changed while being read"),
        (OSError(errno.ENOSPC, "full"), "no room left to write"),
    ],
)
def test_one_object_that_fails(
    tmp_path: Path,
    inputs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(objects, "write_mask_png", fail_at("jug", 6, error))
    assert complete(inputs, out, THREE, "--spans=all") == 2
    printed = capfd.readouterr().err
    assert printed.count("\n") == 1
    assert message in printed
    assert not out.exists()
    monkeypatch.undo()
    assert complete(inputs, out, "--spans=all") == 0  # what is there is gone on from, however many at once
    assert complete(inputs, tmp_path / "whole", "--spans=all") == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_at_least_one(tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        complete(inputs, tmp_path / "out", "--objects-at-once=0")
    assert stop.value.code == 2
    assert "objects_at_once: Not of type PositiveInt" in capfd.readouterr().err
