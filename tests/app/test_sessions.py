"""Sessions: a page's files go when it is closed, also when work is going on, and nobody else's do."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from amodal_diffusion.app.sessions import Quota, Session, Sessions, StoppedError
from amodal_diffusion.basics import InputError


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path)


def test_pages_and_visitors_have_folders_of_their_own(sessions: Sessions) -> None:
    folders = {sessions.get(visitor, page).folder for visitor in "ab" for page in ("1", "2", "../1")}
    assert len(folders) == 6
    assert all(folder.is_dir() and folder.is_relative_to(sessions.root) for folder in folders)
    assert sessions.get("a", "1") is sessions.get("a", "1")


def test_a_closed_page_leaves_nothing_behind(sessions: Sessions) -> None:
    session, other = sessions.get("a", "1"), sessions.get("b", "1")
    (session.fresh_folder("clip") / "0.png").write_bytes(b"x")
    (other.fresh_folder("clip") / "0.png").write_bytes(b"x")
    sessions.close("a", "1")
    sessions.close("a", "never opened")
    assert [path for path in sessions.root.rglob("*") if path.is_file()] == list(other.folder.rglob("*.png"))
    assert list(sessions.root.iterdir()) == [other.folder.parent]


def test_uploads_go_with_the_last_page_of_all_that_may_read_them(sessions: Sessions) -> None:
    upload = sessions.root / "0123" / "clip.mp4"
    upload.parent.mkdir()
    upload.write_bytes(b"x")
    for visitor, page in (("a", "1"), ("a", "2"), ("b", "1")):
        sessions.get(visitor, page)
        sessions.grant(visitor, [upload])
    sessions.close("a", "1")
    assert sessions.may_read("a", upload)
    sessions.close("a", "2")
    assert not sessions.may_read("a", upload)
    assert sessions.may_read("b", upload)
    sessions.close("b", "1")
    assert not upload.parent.exists()


def test_work_of_a_page_that_is_closed_ends_and_then_its_files_go(sessions: Sessions) -> None:
    session = sessions.get("a", "1")
    session.begin()
    session.check()
    sessions.close("a", "1")
    assert session.folder.is_dir()  # something still writes there
    with pytest.raises(StoppedError):
        session.check()
    sessions.finish(session)
    assert not any(sessions.root.iterdir())


def test_all_pages_can_be_closed_at_once(sessions: Sessions) -> None:
    opened = [sessions.get(visitor, page) for visitor in "ab" for page in "12"]
    sessions.close_all()
    assert all(session.stop.is_set() for session in opened)
    assert not any(sessions.root.iterdir())


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def upload(sessions: Sessions, visitor: str, size: int = 1) -> Path:
    path = sessions.root / f"upload-{visitor}" / "clip.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    sessions.grant(visitor, [path])
    return path


def test_a_page_without_use_is_closed_and_its_files_go(tmp_path: Path, clock: Clock) -> None:
    sessions = Sessions(tmp_path, Quota(idle_seconds=10), clock=clock)
    idle, used, at_work = (sessions.get(visitor, "page") for visitor in ("idle", "used", "at work"))
    lost = upload(sessions, "idle")
    at_work.begin()
    clock.now = 8
    sessions.get("used", "page")
    clock.now = 11
    sessions.expire()
    assert not idle.folder.exists()
    assert not lost.exists()
    assert not sessions.may_read("idle", lost)
    assert used.folder.is_dir()
    assert at_work.folder.is_dir()
    sessions.finish(at_work)  # from now on it is idle
    clock.now = 20
    sessions.expire()
    assert at_work.folder.is_dir()
    clock.now = 22
    sessions.expire()
    assert not any(tmp_path.iterdir())
    assert sessions.get("idle", "page") is not idle


def test_uploads_without_a_page_and_broken_ones_go_too(tmp_path: Path, clock: Clock) -> None:
    sessions = Sessions(tmp_path, Quota(idle_seconds=10), clock=clock)
    kept = upload(sessions, "a")
    (tmp_path / "tmp1").write_bytes(b"a part of an upload")
    (tmp_path / "tmp2").write_bytes(b"one that comes in now")
    os.utime(tmp_path / "tmp1", (0, 0))
    sessions.expire()
    assert kept.exists()
    assert not (tmp_path / "tmp1").exists()
    assert (tmp_path / "tmp2").exists()
    clock.now = 11
    sessions.expire()
    assert not kept.parent.exists()


def test_only_so_many_pages_are_open(tmp_path: Path, clock: Clock) -> None:
    sessions = Sessions(tmp_path, Quota(sessions=2, idle_seconds=10), clock=clock)
    sessions.get("a", "1")
    sessions.get("b", "1")
    with pytest.raises(InputError, match="2 are open, as many as this page takes"):
        sessions.get("a", "2")
    with pytest.raises(InputError, match="2 are open"):
        sessions.reserve("c", 1)  # nor can a third visitor fill the disk without a page
    sessions.reserve("a", 1)
    sessions.get("a", "1")
    clock.now = 11
    sessions.get("c", "1")  # the others are idle


def test_room_counts_files_uploads_and_what_is_coming_in(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, Quota(session_bytes=100, total_bytes=250))
    (sessions.get("a", "1").fresh_folder("clip") / "0.png").write_bytes(bytes(40))
    upload(sessions, "a", 30)
    sessions.check_room("a", 30)
    with pytest.raises(InputError, match="your files would take"):
        sessions.check_room("a", 31)
    sessions.reserve("a", 20)
    with pytest.raises(InputError, match="your files would take"):
        sessions.reserve("a", 11)
    sessions.reserve("b", 100)
    with pytest.raises(InputError, match="files of all visitors"):
        sessions.reserve("c", 61)
    sessions.release("a", 20)
    sessions.reserve("c", 80)
    with pytest.raises(InputError, match="files of all visitors"):
        sessions.check_room("d", 1)


def test_many_threads_at_once_begin_work_once(sessions: Sessions) -> None:
    session = sessions.get("a", "1")
    together = threading.Barrier(8)
    begun: list[Session] = []

    def try_to_begin() -> None:
        together.wait()
        try:
            session.begin()
        except InputError:
            return
        begun.append(session)

    threads = [threading.Thread(target=try_to_begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun == [session]
    assert session.running
    sessions.finish(session)
    assert not session.running


def test_whether_a_page_is_at_work_is_asked_under_its_lock(sessions: Sessions) -> None:
    session = sessions.get("a", "1")
    answered = threading.Event()

    def ask() -> None:
        assert session.running
        answered.set()

    with session._lock:
        thread = threading.Thread(target=ask)
        thread.start()
        session._running = True
        assert not answered.is_set()
    thread.join()
    assert answered.is_set()


def test_a_closed_page_begins_nothing(sessions: Sessions) -> None:
    session = sessions.get("a", "1")
    sessions.close("a", "1")
    with pytest.raises(StoppedError):
        session.begin()


def test_a_folder_takes_the_place_of_an_earlier_one_once_it_is_whole(sessions: Sessions) -> None:
    session = sessions.get("a", "1")
    with session.replacing("results") as first:
        assert first.is_dir()

    def fail() -> None:
        with session.replacing("results"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(session.folder.iterdir()) == [first]
    with session.replacing("results") as second:
        pass
    assert list(session.folder.iterdir()) == [second]


def test_a_page_that_was_closed_gets_no_folder_back(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    session = sessions.get("ann", "page")
    sessions.close("ann", "page")
    with pytest.raises(StoppedError):
        session.fresh_folder("paint")
    assert list(tmp_path.iterdir()) == []
