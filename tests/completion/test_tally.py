"""When a batch stops by itself, what it says, and that the processes of a launch share counts and clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import PrefixStore, TCPStore

from amodal_diffusion.completion.clip_work import ClipRecord, failed
from amodal_diffusion.completion.launch_engine import SharedTally, next_clips
from amodal_diffusion.completion.tally import IN_A_ROW, StoppedError, Tally, write_failures
from amodal_diffusion.data.clip_list import ClipEntry, read_clip_list


def failure(number: int, text: str = "no such file") -> ClipRecord:
    entry = ClipEntry(f"clip{number}", Path(f"/clips/{number}.mp4"), Path("/masks"))
    return failed(entry, f"{entry.clip}: {text}")


def success(number: int) -> ClipRecord:
    return ClipRecord(f"clip{number}", "x", "completed", frames=7)


@pytest.fixture
def stores() -> Iterator[list[PrefixStore]]:
    """Two clients of one server, as two processes of a launch have them."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    clients = [TCPStore("127.0.0.1", server.port, timeout=timedelta(seconds=20)) for _ in range(2)]
    yield [PrefixStore("batch/1", client) for client in clients]
    del server  # until here it answers


def test_a_hundred_failures_in_a_row_have_one_reason() -> None:
    tally = Tally()
    for number in range(IN_A_ROW - 1):
        tally.add(failure(number, "disk full" if number % 4 else "no such file"))
        tally.check(None)
    tally.add(success(0))
    tally.check(None)
    for number in range(IN_A_ROW):
        tally.check(None)
        tally.add(failure(number))
    with pytest.raises(
        StoppedError, match=r"stopped: 100 clips in a row failed; most frequent reason \(125 of 199\): /"
    ):
        tally.check(None)
    assert (tally.count("completed"), tally.count("failed"), tally.count("frames"), tally.done) == (1, 199, 7, 200)


def test_processes_share_counts_and_stop_together(stores: list[PrefixStore]) -> None:
    first, second = (SharedTally(store) for store in stores)
    first.add(success(1))
    second.add(failure(2))
    assert [tally.done for tally in (first, second)] == [2, 2]
    assert (first.count("frames"), second.count("completed"), first.in_a_row) == (7, 1, 1)
    second.check(1)
    second.add(failure(3))
    with pytest.raises(StoppedError, match="2 clips failed, and --max-failures is 1"):
        second.check(1)
    with pytest.raises(StoppedError, match="no such file"):
        first.check(1)
    assert (len(first.failures), len(second.failures)) == (0, 2)


def test_each_clip_goes_to_one_process(stores: list[PrefixStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amodal_diffusion.completion.launch_engine.WINDOW", 4)
    monkeypatch.setattr("amodal_diffusion.completion.launch_engine.windows.__defaults__", (4,))
    rows = tuple({"clip": f"{number}.mp4", "masks": "m", "frames": number + 1} for number in range(10))
    clips = read_clip_list(rows)
    takers = [next_clips(clips, store) for store in stores]
    found = [[next(takers[which]).name for which in (0, 1, 1)] for _ in range(3)]
    assert found == [["3", "2", "1"], ["0", "7", "6"], ["5", "4", "9"]]
    assert [entry.name for entry in takers[0]] == ["8"]
    assert list(takers[1]) == []


def test_failures_of_an_earlier_run_go_when_all_clips_were_tried(tmp_path: Path) -> None:
    path = write_failures([failure(2), failure(1)], tmp_path, ended=False)
    assert path is not None
    assert [entry["name"] for entry in json.loads(path.read_text())] == ["clip1", "clip2"]
    assert write_failures([], tmp_path, ended=False) is None
    assert path.is_file()
    write_failures([], tmp_path, ended=True)
    assert not path.exists()
