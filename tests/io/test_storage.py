"""Files and objects by one set of calls: local, file:// and memory:// here; S3 in test_storage_s3."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.io import retries, storage
from amodal_diffusion.io.retries import MissingError, UnavailableError, attempt
from amodal_diffusion.io.scratch import Scratch
from amodal_diffusion.io.storage import create, join, read_bytes, read_range, remove, upload, write_bytes
from amodal_diffusion.io.transfers import (
    StoredFile,
    download,
    fingerprint,
    list_files,
    marked,
    stat,
    upload_folder,
)
from amodal_diffusion.io.urls import Location, UrlPolicy


@pytest.fixture(params=["path", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder of each kind."""
    return {
        "path": tmp_path / "folder",
        "file": f"file://{tmp_path}/folder",
        "memory": f"memory://{uuid4().hex}/folder",
    }[request.param]


def memory() -> str:
    return f"memory://{uuid4().hex}"


def result_folder(parent: Path, files: int = 3) -> Path:
    """A folder with files in subfolders, an empty file and a manifest."""
    result = parent / "result"
    (result / "objects" / "1").mkdir(parents=True)
    for number in range(files):
        (result / "objects" / "1" / f"{number}.png").write_bytes(bytes([number]) * 10)
    (result / "empty.txt").touch()
    (result / "manifest.json").write_text("{}")
    return result


def test_what_is_written_is_read(folder: Location, tmp_path: Path) -> None:
    location = join(folder, "a/b.bin")
    write_bytes(location, b"0123456789")
    assert read_bytes(location) == b"0123456789"
    assert read_range(location, 2, 3) == b"234"
    assert read_range(location, 3, 0) == b""
    assert stat(location).size == 10
    (tmp_path / "c").write_bytes(b"copied")
    upload(tmp_path / "c", location)
    assert read_bytes(location) == b"copied"


def test_a_missing_or_short_file_is_an_input_error(folder: Location) -> None:
    for read in (read_bytes, stat, lambda location: read_range(location, 0, 1)):
        with pytest.raises(MissingError, match=r"no\.bin: there is no such file"):
            read(join(folder, "no.bin"))
    write_bytes(join(folder, "short.bin"), b"0123")
    with pytest.raises(InputError, match="2 bytes from byte 2 on, expected 5"):
        read_range(join(folder, "short.bin"), 2, 5)


def test_one_of_many_creates_a_file(folder: Location) -> None:
    location = join(folder, "run.json")
    assert create(location, b"first")
    assert not create(location, b"second")
    assert read_bytes(location) == b"first"
    remove(location)
    remove(location)
    assert create(location, b"third")


def test_the_marker_is_uploaded_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    out, order = memory(), list[str]()
    put = MemoryFileSystem.put_file

    def note(fs: MemoryFileSystem, source: str, target: str, **options: object) -> None:
        order.append(target)
        put(fs, source, target, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", note)
    upload_folder(result_folder(tmp_path), join(out, "clip"), last="manifest.json")
    assert len(order) == 5
    assert order[-1].endswith("clip/manifest.json")


def test_half_an_upload_and_other_markers_do_not_count(tmp_path: Path) -> None:
    out = memory()
    for name in ("clip 1", "clip 2"):
        upload_folder(result_folder(tmp_path / name), join(out, name), last="manifest.json")
    write_bytes(join(out, "half/objects/1/0.png"), b"1")
    write_bytes(join(out, "clip 2/manifest.json"), b"[]")
    names = dict.fromkeys(["clip 1", "clip 2", "half", "other"], b"{")
    assert marked(out, names, "manifest.json") == {"clip 1"}


def test_a_folder_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amodal_diffusion.io.transfers.BLOCK", 4)
    monkeypatch.setattr("amodal_diffusion.io.transfers.GROUP", 9)
    source, out = result_folder(tmp_path), memory()
    upload_folder(source, join(out, "clip"), last="manifest.json")
    files = list_files(join(out, "clip"))
    assert download(join(out, "clip"), files, tmp_path / "back", limit=0) == 32
    for path in source.rglob("*"):
        copy = tmp_path / "back" / path.relative_to(source)
        assert copy.is_dir() if path.is_dir() else copy.read_bytes() == path.read_bytes()


def test_a_name_that_leads_out_of_the_folder_is_refused() -> None:
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    out = memory()
    write_bytes(join(out, "clip/0.png"), b"1")
    key = f"{MemoryFileSystem._strip_protocol(out)}/clip/../../evil"
    MemoryFileSystem.store[key] = MemoryFile(MemoryFileSystem(), key, b"1")
    with pytest.raises(InputError, match="cannot be the name of a local file"):
        list_files(join(out, "clip"))


def test_a_changed_object_changes_the_fingerprint() -> None:
    files = [StoredFile("a", 1, "x"), StoredFile("b", 2, "y")]
    assert fingerprint(files) == fingerprint(list(files))
    for other in (StoredFile("b", 2, "z"), StoredFile("b", 3, "y"), StoredFile("c", 2, "y")):
        assert fingerprint([files[0], other]) != fingerprint(files)


def _failing(*errors: Exception) -> tuple[Callable[[], str], list[Exception]]:
    left = list(errors)

    def action() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return action, left


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), OSError(16, "SlowDown")])
def test_transient_errors_are_retried_after_growing_pauses(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()
    monkeypatch.setattr("time.sleep", pauses.append)
    action, _ = _failing(error, error, error)
    assert attempt(action, "s3://bucket/x") == "done"
    assert len(pauses) == 3
    assert pauses[0] < pauses[1] < pauses[2]
    action, left = _failing(*[error] * 5)
    with pytest.raises(UnavailableError, match="s3://bucket/x: cannot be read after 3 retries"):
        attempt(action, "s3://bucket/x?sig=secret")
    assert len(left) == 1


def test_other_errors_are_not_retried_and_hide_what_urls_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("no pause"))
    for error in (FileNotFoundError("x?sig=secret"), PermissionError("secret"), OSError("at https://h/x?sig=secret")):
        action, left = _failing(error, error)
        with pytest.raises(InputError) as caught:
            attempt(action, "https://h/x?sig=secret")
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert len(left) == 1
    with pytest.raises(ZeroDivisionError):  # an error of the program stays what it is
        attempt(lambda: 1 // 0, "s3://bucket/x")


def test_only_the_parts_that_failed_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES", (0.0,))
    out = memory()
    for name in "ab":
        write_bytes(join(out, name), name.encode())
    fs, key = storage.open_filesystem(out)
    asked, read, failures = list[str](), fs.cat_file, [ConnectionResetError()]

    def cat_file(path: str, *args: object, **options: object) -> bytes:
        asked.append(path[-1])
        if path.endswith("b") and failures:
            raise failures.pop()
        return bytes(read(path, *args, **options))

    monkeypatch.setattr(fs, "cat_file", cat_file)
    assert storage.read_ranges(fs, [(f"{key}/{name}", 0, 1) for name in "abc"], out) == [b"a", b"b", None]
    assert asked == ["a", "b", "c", "b"]


def test_a_missing_filesystem_says_what_to_install() -> None:
    with pytest.raises(InputError, match="gs://bucket/x: gs:// needs the package gcsfs; pip install"):
        read_bytes("gs://bucket/x")
    with pytest.raises(InputError, match="az:// needs the package adlfs"):
        write_bytes("az://container/x", b"")


def test_https_is_for_input_only() -> None:
    with pytest.raises(InputError, match="https is for input only"):
        write_bytes("https://host/x", b"")


def test_copies_go_when_they_are_released(tmp_path: Path) -> None:
    bucket = memory()
    write_bytes(join(bucket, "clip.mp4"), b"0" * 60)
    write_bytes(join(bucket, "masks/0.png"), b"1" * 20)
    write_bytes(join(bucket, "masks/1.png"), b"2" * 20)
    clip, masks, local = join(bucket, "clip.mp4"), join(bucket, "masks"), tmp_path / "depth.npy"
    scratch = Scratch(tmp_path / "scratch", limit=100)
    with scratch.copy([clip, masks, local, clip]) as copies:
        assert copies.paths[clip].name == "clip.mp4"
        assert sorted(path.name for path in copies.paths[masks].iterdir()) == ["0.png", "1.png"]
        assert copies.paths[local] == local
        assert set(copies.records) == {clip, masks}
        assert copies.records[masks].files == 2
        assert copies.records[masks].bytes == 40
        assert copies.paths[clip].is_relative_to(tmp_path / "scratch")
    assert not copies.paths[clip].exists()
    scratch.close()
    assert not list((tmp_path / "scratch").iterdir())


def test_a_clip_above_the_limit_fails_and_the_next_waits_for_room(tmp_path: Path) -> None:
    bucket = memory()
    write_bytes(join(bucket, "large"), b"0" * 101)
    write_bytes(join(bucket, "a"), b"0" * 60)
    write_bytes(join(bucket, "b"), b"0" * 60)
    scratch = Scratch(tmp_path, limit=100)
    with pytest.raises(InputError, match="101 bytes, more than --scratch-limit 100"):
        scratch.copy([join(bucket, "large")])
    with pytest.raises(MissingError):
        scratch.copy([join(bucket, "a"), join(bucket, "missing")])
    first, second = scratch.copy([join(bucket, "a")]), list[object]()
    thread = threading.Thread(target=lambda: second.append(scratch.copy([join(bucket, "b")])))
    thread.start()
    assert not second
    first.release()
    thread.join(timeout=10)
    assert len(second) == 1
    scratch.close()


def test_copies_of_a_process_that_was_killed_are_removed(tmp_path: Path) -> None:
    bucket = memory()
    write_bytes(join(bucket, "a"), b"0")
    abandoned, other = tmp_path / "amodal-diffusion-dead", tmp_path / "another-folder"
    for folder in (abandoned, other):
        folder.mkdir()
        (folder / ".lock").touch()
        (folder / "clip.mp4").touch()
    alive = Scratch(tmp_path)
    with alive.copy([join(bucket, "a")]) as copies, Scratch(tmp_path).copy([join(bucket, "a")]):
        assert copies.paths[join(bucket, "a")].exists()
    assert not abandoned.exists()
    assert (other / "clip.mp4").exists()
    alive.close()


def test_a_scratch_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    bucket = memory()
    write_bytes(join(bucket, "a"), b"0")
    (tmp_path / "file").touch()
    scratch = Scratch(tmp_path / "file" / "scratch", limit=10)
    for _ in range(2):  # the room is given back
        with pytest.raises(InputError, match=r"--scratch: .*file/scratch: cannot be written"):
            scratch.copy([join(bucket, "a")])


def test_policies_are_asked_before_https_is_read(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, policy=UrlPolicy(frozenset({"other.org"})))
    with pytest.raises(InputError, match=r"https needs --allow-host example\.org") as caught:
        scratch.copy(["https://example.org/clip.mp4?sig=secret"])
    assert "secret" not in str(caught.value)
