"""The order of clips, and which of them are tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.completion import clip_queue
from amodal_diffusion.completion.clip_queue import TRIES, ClipQueue, length_of, longest_first, windows
from amodal_diffusion.data.clip_list import ClipEntry


def clip(name: str, frames: int | None = None, **given: object) -> ClipEntry:
    return ClipEntry(name, Path(f"/none/{name}"), Path("/none"), frames=frames, **given)  # type: ignore[arg-type]


def taken(queue: ClipQueue) -> list[str]:
    return [job.entry.name for job in iter(queue.take, None) if job is not None]


def test_the_longest_clip_of_a_window_comes_first() -> None:
    clips = [clip("a", 3), clip("b", 9), clip("c", 3), clip("d", 50), clip("e", 60)]
    parts = list(windows(clips, 3))
    assert [[entry.name for entry in part] for part in parts] == [["a", "b", "c"], ["d", "e"]]
    assert [[part[place].name for place in longest_first(part)] for part in parts] == [["b", "a", "c"], ["e", "d"]]
    assert taken(ClipQueue(clips)) == ["e", "d", "b", "a", "c"]


def test_the_length_of_a_clip(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"12345")
    assert length_of(clip("a", 4, objects=3)) == 12
    assert length_of(clip("a", 4, objects=3, object_name="2")) == 4
    assert length_of(ClipEntry("a", tmp_path / "a.mp4", tmp_path)) == 5
    assert length_of(ClipEntry("a", tmp_path, tmp_path)) == length_of(clip("missing")) == 1


def test_a_clip_on_which_a_worker_died_is_never_a_second_one() -> None:
    queue = ClipQueue([clip("a"), clip("b")])
    job = queue.take()
    assert job is not None
    assert queue.charge(job)
    assert queue.has_charged
    second = queue.take_second()
    assert second is not None
    assert second.entry.name == "b"
    assert queue.take_second() is None
    again = queue.take()
    assert again is not None
    assert (again.entry.name, again.deaths) == ("a", 1)
    queue.give_back(second)
    assert taken(queue) == ["b"]


def test_a_clip_is_tried_three_times() -> None:
    queue, tries = ClipQueue([clip("a")]), 0
    assert not queue.is_empty
    while (job := queue.take()) is not None:
        assert queue.is_empty
        tries += 1
        assert queue.charge(job) != queue.is_empty
    assert tries == TRIES == 3


def test_a_clip_in_use_is_tried_again_later_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(clip_queue.time, "monotonic", lambda: now)
    queue = ClipQueue([clip("a")])
    job = queue.take()
    assert job is not None
    assert queue.hold(job)
    assert queue.take() is None
    assert not queue.is_empty
    now += 2.5
    again = queue.take()
    assert again is not None
    assert again.deaths == 0
    assert queue.hold(again)
    now += 119.0
    last = queue.take()
    assert last is not None
    assert not queue.hold(last)


def test_a_clip_on_which_a_worker_died_is_no_second_one_after_it_was_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(clip_queue.time, "monotonic", lambda: now)
    queue = ClipQueue([clip("a")])
    job = queue.take()
    assert job is not None
    queue.charge(job)
    charged = queue.take()
    assert charged is not None
    queue.hold(charged)
    now += 2.5
    assert queue.take_second() is None
    assert queue.take() is not None
