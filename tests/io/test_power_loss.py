"""Records say "finished" only of files that the disk has; folders change places in one step where the system can."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from amodal_diffusion.io import atomic
from amodal_diffusion.io.atomic import exchange, replacing_folder, write_text
from amodal_diffusion.io.result_folder import MANIFEST, OutputFolder
from tests.disk import Disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="syncs are followed as Linux can")


def test_a_step_is_finished_once_its_files_are_on_the_disk(tmp_path: Path, disk: Disk) -> None:
    said = list[bool]()

    def check(old: Path, new: Path) -> None:
        if new.name == MANIFEST and any(step["finished"] for step in json.loads(old.read_text())["steps"].values()):
            said.append(all(disk.keeps(new.parent / name, new.parent) for name in ("a/b/c.txt", "d.txt")))

    disk.on_rename = check
    out = OutputFolder(tmp_path / "out", inputs={}, settings={})
    with out.opened(), out.step("one", ["a/b/c.txt", "d.txt"]) as work:
        (work / "a/b/c.txt").write_text("c")
        (work / "d.txt").write_text("d")
        assert not disk.keeps(work / "d.txt", work)
    assert said == [True]


def test_a_line_that_was_cut_off_ends_the_notes(tmp_path: Path) -> None:
    """The rest of the journal is not trusted, and new lines follow the whole ones."""
    files = ["a.txt", "b.txt", "progress.txt"]

    def interrupted() -> None:
        with (
            OutputFolder(tmp_path / "out", inputs={}, settings={}).opened() as out,
            out.step("one", files, progress="progress.txt") as work,
        ):
            for name in ("a.txt", "b.txt"):
                write_text(work / name, name)
                out.record("one", [name])
            write_text(work / "progress.txt", "2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    journal = tmp_path / "out.partial" / "finished.jsonl"
    text = journal.read_text()
    journal.write_text(text[:-5])
    with OutputFolder(tmp_path / "out", inputs={}, settings={}).opened() as out:
        with out.step("one", files, progress="progress.txt"):
            assert out.noted("one", "a.txt")
            assert out.noted("one", "b.txt") is None
            out.record("one", ["b.txt"])
            assert journal.read_text() == text
        out.commit()
    assert not (tmp_path / "out" / "finished.jsonl").exists()


def folder_of(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "text").write_text(text)
    return path


def test_two_folders_change_places_in_one_step(tmp_path: Path) -> None:
    first, second = folder_of(tmp_path / "a", "first"), folder_of(tmp_path / "b", "second")
    if not exchange(first, second):
        pytest.skip("this file system exchanges no folders")
    assert ((first / "text").read_text(), (second / "text").read_text()) == ("second", "first")
    with pytest.raises(FileNotFoundError):
        exchange(first, tmp_path / "c")


@pytest.mark.parametrize("can", [True, False])
def test_a_reader_meets_a_whole_folder(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, can: bool) -> None:
    """Without the exchange there is one instant without a folder, in which the old one stands beside it."""
    if can and not exchange(folder_of(tmp_path / "a", ""), folder_of(tmp_path / "b", "")):
        pytest.skip("this file system exchanges no folders")
    if not can:
        monkeypatch.setattr(atomic, "_renameat2", lambda: None)
    path, missing = folder_of(tmp_path / "out", "old"), list[tuple[Path, Path]]()

    def look(old: Path, new: Path) -> None:
        if not path.exists():
            missing.append((old, new))
            assert (tmp_path / "out.replaced" / "text").read_text() == "old"

    disk.on_rename = look
    with replacing_folder(path) as fresh:
        (fresh / "text").write_text("new")
    assert missing == ([] if can else [(tmp_path / "out.partial", path)])
    assert (path / "text").read_text() == "new"
    assert {entry.name for entry in tmp_path.iterdir()} - {"a", "b"} == {"out"}


@pytest.mark.parametrize("can", [True, False])
def test_results_replace_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool) -> None:
    if not can:
        monkeypatch.setattr(atomic, "_renameat2", lambda: None)
    for seed in range(2):
        with OutputFolder(tmp_path / "out", inputs={}, settings={"seed": seed}, overwrite=True).opened() as out:
            with out.step("one", ["a.txt"]) as work:
                (work / "a.txt").write_text(str(seed))
            out.commit()
    assert (tmp_path / "out" / "a.txt").read_text() == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
