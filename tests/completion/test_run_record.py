"""`run.json`: one driver at a time, the settings of all results, and what a run that failed at once leaves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion import run_record
from amodal_diffusion.completion.networks import Places
from amodal_diffusion.completion.run_record import RunFile, RunIdentity, claimed, weights_of

IDENTITY = RunIdentity({"seed": 0, "formats": ["png"]}, "1.0", {"amodal_segmentation": "a"})


def driver(out: Path) -> dict[str, object] | None:
    found: dict[str, object] | None = json.loads((out / "run.json").read_text())["driver"]
    return found


def finished(out: Path) -> None:
    with claimed(RunFile(out), IDENTITY, overwrite=False, take_over=False) as claim:
        claim.binds = True


def test_the_record_names_the_driver_while_it_runs(tmp_path: Path) -> None:
    with claimed(RunFile(tmp_path), IDENTITY, overwrite=False, take_over=False) as claim:
        found = driver(tmp_path)
        assert found is not None
        assert found["pid"] == os.getpid()
        claim.binds = True
    assert driver(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_run_that_completes_nothing_leaves_no_record(tmp_path: Path) -> None:
    with claimed(RunFile(tmp_path), IDENTITY, overwrite=False, take_over=False):
        pass
    assert list(tmp_path.iterdir()) == []
    finished(tmp_path)
    with claimed(RunFile(tmp_path), IDENTITY, overwrite=False, take_over=False):
        pass
    assert driver(tmp_path) is None


def test_a_second_run_is_refused_until_it_takes_over_and_the_first_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_record, "_LOOK_AGAIN", 0.0)
    with claimed(RunFile(tmp_path), IDENTITY, overwrite=False, take_over=False) as first:
        first.binds = True
        first.check()
        with (
            pytest.raises(InputError, match=r"a run is at work .*; wait for it, or give --take-over"),
            claimed(RunFile(tmp_path), IDENTITY, overwrite=False, take_over=False),
        ):
            pass
        with claimed(RunFile(tmp_path), IDENTITY, overwrite=False, take_over=True) as second:
            with pytest.raises(InputError, match="another run has taken over"):
                first.check()
            second.check()
    assert driver(tmp_path) is None


def test_a_driver_that_was_killed_is_no_driver(tmp_path: Path) -> None:
    finished(tmp_path)
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    record = json.loads((tmp_path / "run.json").read_text())
    gone = {"host": run_record.socket.gethostname(), "pid": int(process.stdout), "id": "0" * 32}
    (tmp_path / "run.json").write_text(json.dumps({**record, "driver": {**gone, "begun": "then"}}))
    marker = tmp_path / f".shared-{gone['id']}"
    marker.write_text("of a process that was killed")
    with claimed(RunFile(tmp_path), IDENTITY, overwrite=False, take_over=False) as claim:
        assert not marker.exists()
        assert claim.marker != marker
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    (tmp_path / "run.json").write_text(json.dumps({**record, "driver": {**gone, "host": "elsewhere"}}))
    with pytest.raises(InputError, match=r"a run is at work \(host elsewhere"):
        finished(tmp_path)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (RunIdentity({"seed": 1, "formats": ["png"]}, "1.0", {"amodal_segmentation": "a"}), "seed"),
        (RunIdentity({"seed": 0, "formats": ["png"]}, "1.1", {"amodal_segmentation": "b"}), "version, weights"),
    ],
)
def test_other_settings_version_or_weights(tmp_path: Path, other: RunIdentity, what: str) -> None:
    finished(tmp_path)
    with (
        pytest.raises(InputError, match=f"begun with other {what}; give the same"),
        claimed(RunFile(tmp_path), other, overwrite=False, take_over=False),
    ):
        pass
    with claimed(RunFile(tmp_path), other, overwrite=True, take_over=False):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["version"] == other.version


def test_a_record_whose_settings_are_none_belongs_to_another_run(tmp_path: Path) -> None:
    finished(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": [1]}))
    with (
        pytest.raises(InputError, match="begun with other "),
        claimed(RunFile(tmp_path), IDENTITY, overwrite=False, take_over=False),
    ):
        pass


def test_of_two_runs_that_begin_at_once_one_is_refused(tmp_path: Path) -> None:
    file = RunFile(tmp_path)
    assert file.create("mine")
    assert not file.create("theirs")
    assert file.replace("next", expected="mine")
    assert not file.replace("late", expected="mine")
    assert file.read() == "next"
    (tmp_path / "run.json.0123.partial").write_text("of a process that was killed")
    file.remove_leftovers()
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_the_file_appears_with_all_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write, seen = RunFile(tmp_path), run_record._write, []

    def watched(path: Path, text: str) -> bool:
        seen.append((path == file.path, file.path.exists()))
        return write(path, text)

    monkeypatch.setattr(run_record, "_write", watched)
    assert file.create("mine")
    assert seen == [(False, False)]
    assert not file.create("theirs")
    file.path.unlink()

    def without_links(*_: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(run_record.os, "link", without_links)
    assert file.create("mine")
    assert not file.create("theirs")
    assert not file.replace("late", expected="theirs")
    assert file.replace("next", expected="mine")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("run.json", "next")]


@pytest.mark.parametrize("step", ["read_text", "_give_name"])
def test_a_run_that_is_killed_while_it_replaces_the_record_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    finished(tmp_path)
    record = (tmp_path / "run.json").read_text()

    class KilledError(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path if step == "read_text" else RunFile, step, killed)
        patch.setattr(RunFile, "recover", lambda _: None)  # a process that is killed does nothing more
        with pytest.raises(KilledError):
            RunFile(tmp_path).replace("next", expected=record)
    assert not (tmp_path / "run.json").exists()
    other = RunIdentity({"seed": 1, "formats": ["png"]}, "1.0", {"amodal_segmentation": "a"})
    with (
        pytest.raises(InputError, match="begun with other seed"),
        claimed(RunFile(tmp_path), other, overwrite=False, take_over=False),
    ):
        pass
    finished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_record.os, "fsync", full)
        with pytest.raises(InputError, match=r"run.json: cannot be written \(No space left on device\)"):
            finished(tmp_path)
    assert list(tmp_path.iterdir()) == []
    finished(tmp_path)
    record = (tmp_path / "run.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(run_record.os, "fsync", full)
        with pytest.raises(InputError, match="cannot be written"):
            finished(tmp_path)
    assert (tmp_path / "run.json").read_text() == record
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_record_that_is_none(tmp_path: Path) -> None:
    driver = {"host": "elsewhere", "pid": 1, "id": "../../other"}
    for record in ({}, {"format": 1, "driver": driver}, {"format": 1, "driver": {}}, {"format": 1, "driver": 1}):
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(InputError, match="not a record of this version"):
            finished(tmp_path)


def test_weights_are_the_same_wherever_they_lie(tmp_path: Path) -> None:
    found = []
    for name in "abc":
        folder = tmp_path / name / "model"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights" if name != "c" else b"other")
        places = SimpleNamespace(stages={"amodal_segmentation": folder}, depth=None, segmenter=None, vae=None)
        found.append(weights_of(cast("Places", places)))
    assert found[0] == found[1] != found[2]
