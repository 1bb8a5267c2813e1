"""`complete --object-batch`: objects are rows of one network call; the files are the same, also after an error."""

from __future__ import annotations

import errno
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.completion import objects
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.result_folder import MANIFEST
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.types import BoolArray
from tests.commands.folders import contents, discs_behind_a_bar, fail_at

FRAMES = 7  # two windows of 4 that share one
OBJECTS = ("cup", "jug", "pot", "tin")
THREE = "--object-batch=3"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[str]:
    """Arguments for four discs that pass behind a bar at times of their own."""
    shifts = {name: 4 * number - 6 for number, name in enumerate(OBJECTS)}
    return [*discs_behind_a_bar(tmp_path_factory.mktemp("clip"), model, FRAMES, shifts), "-q"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, inputs: list[str]) -> Path:
    """What becomes of them one after the other."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert complete(inputs, out) == 0
    return out


def complete(inputs: list[str], out: Path, *options: str) -> int:
    return main(["complete", *inputs, "--out", str(out), *options])


def test_objects_are_rows_of_one_network_call(
    tmp_path: Path, inputs: list[str], whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, rows, threads = ConditionedVideoPipeline.__call__, [], set()

    def counted(pipeline: ConditionedVideoPipeline, modal: Tensor, *arguments: Any, **options: Any) -> Any:
        rows.append((pipeline.stage, len(modal)))
        threads.add(threading.current_thread())
        return call(pipeline, modal, *arguments, **options)

    monkeypatch.setattr(ConditionedVideoPipeline, "__call__", counted)
    assert complete(inputs, tmp_path / "out", "--object-batch=9") == 0
    assert rows == [("amodal_segmentation", 4)] * 2 + [("content_completion", 4)] * 2  # a row for each object
    assert threads == {threading.main_thread()}
    assert contents(tmp_path / "out") == contents(whole)


def test_the_same_files_whatever_the_batch(tmp_path: Path, inputs: list[str]) -> None:
    options = ("--samples=2", "--skip-unoccluded", "--color-propagation")
    assert complete(inputs, tmp_path / "one", *options) == 0
    assert complete(inputs, tmp_path / "three", *options, THREE) == 0
    assert contents(tmp_path / "three") == contents(tmp_path / "one")
    one, three = (json.loads((tmp_path / name / MANIFEST).read_text()) for name in ("one", "three"))
    for manifest in (one, three):
        for step in manifest["steps"].values():  # some records hold seconds
            step["digests"] = {file: text for file, text in step["digests"].items() if not file.endswith(".json")}
    assert one == three
    seconds = json.loads((tmp_path / "three" / "summary.json").read_text())["objects"]
    assert all(seconds[name]["seconds"]["amodal_segmentation"] > 0 for name in OBJECTS)


@pytest.mark.parametrize(("objects", "option"), [(OBJECTS[:1], ("--object=cup",)), (OBJECTS, ())])
def test_masks_are_decoded_as_often_for_one_object_as_for_four(
    tmp_path: Path,
    inputs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    objects: tuple[str, ...],
    option: tuple[str, ...],
) -> None:
    decoded = Counter[str]()
    masks = MaskTrack.__iter__

    def counted(track: MaskTrack) -> Iterator[BoolArray]:
        for mask in masks(track):
            decoded[track.name] += 1
            yield mask

    monkeypatch.setattr(MaskTrack, "__iter__", counted)
    assert complete(inputs, tmp_path / "out", "--skip-unoccluded", "--depth=none", "--stages=masks", *option) == 0
    # Where the object can be occluded, with all objects at once; its completion; the overlay; the layer order
    assert decoded == dict.fromkeys(objects, 4 * FRAMES)


def test_an_interruption_with_three_in_a_batch(
    tmp_path: Path, inputs: list[str], whole: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, talkative = tmp_path / "out", inputs[:-1]
    for name, frame in (("jug", 3), ("pot", 5)):
        monkeypatch.setattr(objects, "write_mask_png", fail_at(name, frame, KeyboardInterrupt()))
        assert complete(inputs, out, THREE) == 130
    monkeypatch.undo()
    capfd.readouterr()
    assert complete(talkative, out, THREE) == 0
    assert f"object pot: resumes at frame 5 of {FRAMES}" in capfd.readouterr().err
    assert contents(out) == contents(whole)


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
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(objects, "write_mask_png", fail_at("jug", 4, error))
    assert complete(inputs, out, THREE) == 2
    printed = capfd.readouterr().err
    assert printed.count("\n") == 1
    assert message in printed
    assert not out.exists()
    monkeypatch.undo()
    assert complete(inputs, out) == 0  # goes on from what is there, whatever the batch
    assert contents(out) == contents(whole)


def test_at_least_one(tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        complete(inputs, tmp_path / "out", "--object-batch=0")
    assert stop.value.code == 2
    assert "--object-batch: expected a whole number, at least 1, got '0'" in capfd.readouterr().err
