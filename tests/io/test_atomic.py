"""A file or folder is the old one or the new one, whole, whatever happens; damage is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.io.atomic import (
    destination_of,
    find_damage,
    replacing_file,
    replacing_folder,
    write_digests,
    write_text,
)


def test_text_replaces_a_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """Also with characters that a locale's encoding may lack."""
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "é中")
    assert path.read_bytes().decode("utf-8") == "é中"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    """And the half-written file is removed."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing_file(path) as partial:
            partial.write_bytes(b"ne")
            assert partial.parent == tmp_path
            assert partial.suffix == ".partial"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Each has its own temporary file; the last to finish wins."""
    path = tmp_path / "a.bin"
    with replacing_file(path) as first:
        first.write_bytes(b"first")
        with replacing_file(path) as second:
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"


def test_the_temporary_file_of_a_killed_writer_is_known_by_its_name(tmp_path: Path) -> None:
    """And no other file is taken for one."""
    path = tmp_path / "a.txt"
    with replacing_file(path) as partial:
        partial.touch()
    assert destination_of(partial) == path
    for other in ("a.txt", "a.txt.partial", "a.txt.notes.partial"):
        assert destination_of(tmp_path / other) is None


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    """The old content does not shine through."""
    path = tmp_path / "made" / "folder"
    for name in ("old", "new"):
        with replacing_folder(path) as partial:
            (partial / "deep").mkdir()
            (partial / "deep" / name).write_text(name)
    assert [file.name for file in (path / "deep").iterdir()] == ["new"]
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    """And frees what it has taken of the disk."""
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()

    def fail() -> None:
        with replacing_folder(path) as partial:
            (partial / "new").touch()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fails", [False, True])
def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path, *, fails: bool) -> None:
    """The next call has the old folder back until its own is whole, and removes the rest."""
    path = tmp_path / "folder"
    for name in ("folder.partial", "folder.replaced"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    try:
        with replacing_folder(path) as partial:
            assert (path / "folder.replaced").is_file()
            assert not list(partial.iterdir())
            (partial / "new").touch()
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert [file.name for file in path.iterdir()] == ["folder.replaced" if fails else "new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "deep/a is missing"),
        (lambda file: file.write_bytes(b"ab"), "deep/a has 2 bytes, 3 were written"),
        (lambda file: file.write_bytes(b"abd"), "deep/a is not what was written"),
        (lambda file: (file.parents[1] / "manifest.json").write_text("{"), "it cannot be read ("),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: object, message: str) -> None:
    """Also where digests are written twice, as after a file was added."""
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "a"
    file.write_bytes(b"abc")
    assert find_damage(tmp_path) is None  # no digests yet
    for _ in range(2):
        write_digests(tmp_path)
        assert find_damage(tmp_path) is None
    assert callable(damage)
    damage(file)
    assert str(find_damage(tmp_path)).startswith(message)
