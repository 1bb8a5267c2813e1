"""Result folders: complete or absent, resumed, refused, and no foreign file ever removed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.io.result_folder import MANIFEST, InputRecord, OutputFolder

LEFT = f"{'0' * 32}.partial"
"""Ending of a file that a killed process was writing."""


def folder(path: Path, *, seed: int = 0, overwrite: bool = False) -> OutputFolder:
    return OutputFolder(path, inputs={}, settings={"seed": seed}, overwrite=overwrite)


def write(path: Path, text: str = "new", *, seed: int = 0, overwrite: bool = False, commit: bool = True) -> list[str]:
    """Run two steps, return those that were done."""
    done = []
    with folder(path, seed=seed, overwrite=overwrite).opened() as out:
        for name in ("a", "b"):
            if out.is_finished(name):
                continue
            with out.step(name, [f"objects/{name}/0.txt"]) as work:
                (work / f"objects/{name}/0.txt").write_text(text)
            done.append(name)
        if commit:
            out.commit()
    return done


def texts(path: Path) -> dict[str, str]:
    found = {str(file.relative_to(path)): file.read_text() for file in path.rglob("*.txt")}
    assert (path / MANIFEST).is_file()
    return found


def test_whole_or_absent(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write(out, commit=False)
    assert not out.exists()
    write(out)
    assert texts(out) == {"objects/a/0.txt": "new", "objects/b/0.txt": "new"}
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, "objects"]


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert len(texts(tmp_path / "out")) == 2


def test_goes_on_after_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def interrupted_run() -> None:
        with folder(path).opened() as out:
            with out.step("a", ["objects/a/0.txt"]) as work:
                (work / "objects/a/0.txt").write_text("first run")
            with out.step("b", ["objects/b/0.txt"]) as work:
                (work / "objects/b/0.txt").write_text("half")
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert not path.exists()
    assert write(path, "second run") == ["b"]
    assert texts(path) == {"objects/a/0.txt": "first run", "objects/b/0.txt": "second run"}


def test_what_a_kill_left_half_written_is_not_in_the_results(tmp_path: Path) -> None:
    path, partial = tmp_path / "out", tmp_path / "out.partial"
    write(path, commit=False)
    for name in (MANIFEST, "objects/b/0.txt"):
        (partial / f"{name}.{LEFT}").write_text("a part of")
    write(path)
    found = {str(file.relative_to(path)) for file in path.rglob("*.*")}
    assert found == {MANIFEST, *texts(path)}


def test_work_that_fails_before_a_step_is_finished_leaves_nothing(tmp_path: Path) -> None:
    def failing_run() -> None:
        with folder(tmp_path / "out").opened() as out, out.step("a", ["0.txt"]) as work:
            (work / "0.txt").write_text("half")
            raise InputError("height: expected a multiple of 8")

    with pytest.raises(InputError, match="multiple of 8"):
        failing_run()
    assert not any(tmp_path.iterdir())


def test_a_finished_step_whose_file_is_gone_is_done_again(tmp_path: Path) -> None:
    write(tmp_path / "out", commit=False)
    (tmp_path / "out.partial/objects/a/0.txt").write_text("")
    assert write(tmp_path / "out") == ["a"]


def test_another_command_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    write(tmp_path / "out", commit=False)
    with pytest.raises(InputError, match=r"begun by another command \(other seed\)"):
        folder(tmp_path / "out", seed=1)
    assert write(tmp_path / "out", seed=1, overwrite=True) == ["a", "b"]


def test_results_are_replaced_only_when_asked_and_only_by_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, "old")
    with pytest.raises(InputError, match=r"not empty.*--overwrite"):
        folder(path)
    write(path, "new", seed=1, overwrite=True, commit=False)
    assert texts(path)["objects/a/0.txt"] == "old"
    write(path, "new", seed=1, overwrite=True)
    assert set(texts(path).values()) == {"new"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("where", ["out", "out.partial"])
def test_foreign_files_are_never_removed(tmp_path: Path, where: str) -> None:
    path = tmp_path / "out"
    write(path, "old", commit=where == "out")
    (tmp_path / where / "objects" / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match=r"mine\.txt, which no manifest"):
        folder(path, seed=1, overwrite=True)
    assert (tmp_path / where / "objects" / "mine.txt").read_text() == "precious"
    assert (tmp_path / where / "objects/a/0.txt").read_text() == "old"


def test_a_folder_without_a_manifest_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        folder(tmp_path / "out", overwrite=True)


def test_a_foreign_file_that_comes_during_the_work_stops_the_renaming(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with folder(path).opened() as out:
        with out.step("a", ["0.txt"]) as work:
            (work / "0.txt").write_text("new")
        path.mkdir()
        (path / "late.txt").write_text("precious")
        with pytest.raises(InputError, match="complete results are in"):
            out.commit()
    assert (path / "late.txt").read_text() == "precious"
    assert (tmp_path / "out.partial" / "0.txt").read_text() == "new"


@pytest.mark.parametrize("renamed", [False, True])
def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path, renamed: bool) -> None:
    path = tmp_path / "out"
    write(path, "old")
    write(path, "new", seed=1, overwrite=True, commit=False)
    path.rename(tmp_path / "out.replaced")
    if renamed:
        (tmp_path / "out.partial").rename(path)
    write(path, "newest", seed=1, overwrite=True)
    assert set(texts(path).values()) == {"newest" if renamed else "new"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out"]


def test_a_manifest_that_lists_files_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path)
    (tmp_path / "victim.txt").write_text("precious")
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["steps"]["a"]["files"] = ["../victim.txt"]
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="elsewhere"):
        folder(path, seed=1, overwrite=True)
    assert (tmp_path / "victim.txt").exists()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(InputError, match="a file is in the way"):
        folder(tmp_path / "out", overwrite=True)


def _try_to_open(path: Path, answers: multiprocessing.SimpleQueue[str]) -> None:
    try:
        with folder(path).opened():
            answers.put("opened")
    except InputError as error:
        answers.put(str(error))


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with folder(tmp_path / "out").opened():
        other = context.Process(target=_try_to_open, args=(tmp_path / "out", answers))
        other.start()
        assert "another run is at work" in answers.get()
        other.join()


def test_an_input_is_known_again_until_it_changes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_text("x")
    first = InputRecord.of(tmp_path / "a")
    assert first == InputRecord.of(tmp_path / "a")
    assert (first.files, first.bytes) == (1, 1)
    (tmp_path / "a" / "1.png").write_text("y")
    assert InputRecord.of(tmp_path / "a") != first


def test_pieces_that_are_written_outlive_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out"
    names = ["pieces/0.txt", "pieces/1.txt"]

    def stopped() -> None:
        with folder(path).opened() as out:
            work = out.pieces("all", names)
            write_text(work / names[0], "one")
            (work / f"{names[1]}.{LEFT}").write_text("a part of")  # as a kill leaves it
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stopped()
    with pytest.raises(InputError, match="begun by another command"):
        folder(path, seed=1)
    with folder(path).opened() as out:
        work = out.pieces("all", names)
        assert (work / names[0]).read_text() == "one"
        assert not out.is_finished("all")
        with out.step("a", ["a.txt"]):
            (work / "a.txt").write_text("whole")
        out.commit(discarding="all")
    assert sorted(file.name for file in path.iterdir()) == ["a.txt", MANIFEST]


def test_no_folder_is_left_where_no_piece_was_written(tmp_path: Path) -> None:
    def stopped() -> None:
        with folder(tmp_path / "out").opened() as out:
            out.pieces("all", ["pieces/0.txt"])
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stopped()
    assert list(tmp_path.iterdir()) == []


def begin_and_die(path: Path) -> None:
    with folder(path).opened() as out:
        work = out.pieces("all", ["pieces/0.txt"])
        (work / f"pieces/0.txt.{LEFT}").write_text("a part of")
        os._exit(9)


def test_begun_pieces_of_another_command_can_be_replaced(tmp_path: Path) -> None:
    killed = multiprocessing.get_context("fork").Process(target=begin_and_die, args=(tmp_path / "out",))
    killed.start()
    killed.join()
    assert (tmp_path / f"out.partial/pieces/0.txt.{LEFT}").is_file()
    write(tmp_path / "out", seed=1, overwrite=True)
    assert sorted(texts(tmp_path / "out")) == ["objects/a/0.txt", "objects/b/0.txt"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_and_keeps_what_is_finished(tmp_path: Path, number: int) -> None:
    path = tmp_path / "out"

    def full() -> None:
        with folder(path).opened() as out:
            with out.step("a", ["objects/a/0.txt"]) as work:
                (work / "objects/a/0.txt").write_text("old")
            with out.step("b", ["objects/b/0.txt"]) as work:
                (work / "objects/b/0.txt").write_text("par")
                raise OSError(number, "full")

    with pytest.raises(InputError, match=r"no room left to write .*the same command resumes"):
        full()
    assert write(path) == ["b"]
    assert texts(path) == {"objects/a/0.txt": "old", "objects/b/0.txt": "new"}


def test_other_errors_of_the_system_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), folder(tmp_path / "out").opened():
        raise PermissionError(errno.EACCES, "no")
