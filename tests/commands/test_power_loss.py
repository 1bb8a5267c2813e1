"""A power cut costs `complete` no frame that it has recorded, and what it damaged is noticed and made again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from amodal_diffusion.cli import main
from amodal_diffusion.completion import objects
from amodal_diffusion.io.result_folder import MANIFEST, OutputFolder
from amodal_diffusion.models.depth import DepthEstimator
from amodal_diffusion.types import FloatArray, UInt8Array
from tests.commands.folders import contents, discs_behind_a_bar, fail_at
from tests.disk import Disk
from tests.factories import tiny_depth_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="syncs are followed as Linux can")


def test_a_command_records_what_the_disk_has(tmp_path: Path, model: Path, disk: Disk) -> None:
    """Each manifest, and each object's progress, is compared with what was synced before it took its place."""
    arguments = discs_behind_a_bar(tmp_path, model, 6, {"cup": 0})
    recorded = set[str]()

    def check(old: Path, new: Path) -> None:
        work = tmp_path / "out.partial"
        if new == work / MANIFEST:
            steps = json.loads(old.read_text())["steps"].values()
            names = [name for step in steps if step["finished"] for name in step["files"] if (work / name).exists()]
        elif new.name == "object.json":
            frames = json.loads(old.read_text()).get("frames", 0)
            folder = new.parent.relative_to(work)
            names = [
                str(folder / kind / f"{i:05d}.png") for i in range(frames) for kind in ("amodal_masks", "completed")
            ]
        else:
            return
        for name in names:
            assert disk.keeps(work / name, work), name
        recorded.update(names)

    disk.on_rename = check
    assert main(["complete", *arguments, "--out", str(tmp_path / "out"), "-q"]) == 0
    written = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert written - recorded == {MANIFEST}
    results = disk.place("rename", tmp_path / "out.partial", tmp_path / "out")
    assert disk.place("sync", tmp_path / "out.partial") < results < disk.place("sync", tmp_path)


def test_files_that_changed_since_are_made_again(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A picture that lost its content in a power cut, and one that lacks a block, are there but not as written."""
    arguments = discs_behind_a_bar(tmp_path, model, 6, {"cup": 0, "jug": 5})
    command = ["complete", *arguments, "-q", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "commit", interrupt)
        assert main([*command, str(out)]) != 0
    damaged = tmp_path / "out.partial" / "objects" / "jug" / "amodal_masks" / "00003.png"
    content = damaged.read_bytes()
    damaged.write_bytes(bytes(len(content)))
    capfd.readouterr()
    assert main([*command, str(out)]) == 0
    notices = [line for line in capfd.readouterr().err.splitlines() if "as it was written" in line]
    assert len(notices) == 1
    assert "objects/jug/amodal_masks/00003.png is not as it was written and is made again" in notices[0]
    assert (out / "objects" / "jug" / "amodal_masks" / "00003.png").read_bytes() == content
    assert contents(out) == contents(tmp_path / "whole")


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_estimated_depth_goes_on_after_the_batches_that_are_as_they_were_written(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [text for text in discs_behind_a_bar(tmp_path, model, 10, {"cup": 0}) if not text.startswith("--depth")]
    network = tiny_depth_folder(tmp_path / "network")
    command = ["complete", *arguments, "--stages=masks", f"--depth-model={network}", "-q", "--out"]
    estimate, batches = DepthEstimator.__call__, list[int]()

    def counted(self: DepthEstimator, rgb: UInt8Array) -> FloatArray:
        if len(batches) == 2:
            batches.clear()
            raise KeyboardInterrupt
        batches.append(len(rgb))
        return estimate(self, rgb)

    with monkeypatch.context() as patch:
        patch.setattr(DepthEstimator, "__call__", counted)
        assert main([*command, str(tmp_path / "out")]) != 0
    file = tmp_path / "out.partial" / "estimated_depth.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # in the second batch of four frames
    file.write_bytes(content)
    monkeypatch.setattr(
        DepthEstimator, "__call__", lambda self, rgb: (batches.append(len(rgb)), estimate(self, rgb))[1]
    )
    assert main([*command, str(tmp_path / "out")]) == 0
    assert batches == [4, 2]
    assert main([*command, str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("old", "new"),
    [('"hidden": ', '"hidden": 4'), ('"seconds"', '"secondr"')],
)
def test_a_damaged_record_of_the_progress_begins_the_object_anew(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    command = ["complete", *discs_behind_a_bar(tmp_path, model, 6, {"cup": 0}), "-q", "--out"]
    with monkeypatch.context() as patch:
        patch.setattr(objects, "write_mask_png", fail_at("cup", 5, KeyboardInterrupt()))
        assert main([*command, str(tmp_path / "out")]) != 0
    record = tmp_path / "out.partial" / "objects" / "cup" / "object.json"
    text = record.read_text()
    record.write_text(text.replace(old, new, 1))
    assert record.read_text() != text
    assert main([*command, str(tmp_path / "out")]) == 0
    assert main([*command, str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
