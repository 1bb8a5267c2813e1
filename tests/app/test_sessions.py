"""Sessions: a page's files go when it is closed, also when work is going on, and nobody else's do."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.app.sessions import Sessions, StoppedError


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
