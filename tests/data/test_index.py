"""The index of an annotation file: the same tracks, made once, made again for a changed file, in any process."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import TrackIndex, stream_entries
from amodal_diffusion.data.records import read_records
from tests.tracks import write_tracks


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tracks(tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def annotations(shared: Path, tmp_path: Path) -> Path:
    return _copy(shared, tmp_path)


def _copy(source: Path, folder: Path) -> Path:
    (folder / source.name).write_bytes(source.read_bytes())
    return folder / source.name


def test_it_has_the_tracks_of_the_file(annotations: Path) -> None:
    records = read_records(annotations)
    index = TrackIndex(annotations)
    assert len(index) == len(records)
    assert tuple(index.record(number) for number in range(len(index))) == records
    assert [entry["obj_id"] for entry in stream_entries(annotations)] == [record.obj_id for record in records]
    for number in (-1, len(index)):
        with pytest.raises(IndexError, match="number: expected 0 to"):
            index.record(number)


def test_a_few_values_of_each_entry(annotations: Path) -> None:
    index = TrackIndex(annotations)
    expected = [(entry["obj_id"], entry["image_file_names"][0], None) for entry in stream_entries(annotations)]
    assert list(index.values("$.obj_id", "$.image_file_names[0]", "$.none")) == expected
    assert list(index.values("$.obj_id", limit=1)) == [expected[0][:1]]
    assert index.entry(1)["obj_id"] == expected[1][0]


def test_it_is_made_once_and_again_for_a_changed_file(annotations: Path) -> None:
    first = TrackIndex(annotations)
    made = first.path.stat()
    assert TrackIndex(annotations).path.stat().st_mtime_ns == made.st_mtime_ns
    entries = json.loads(annotations.read_text())
    annotations.write_text(json.dumps(entries[:2]))
    again = TrackIndex(annotations)
    assert len(again) == 2
    assert again.fingerprint != first.fingerprint
    again.path.write_bytes(b"damaged")
    assert len(TrackIndex(annotations)) == 2


def test_a_broken_off_index_is_not_taken(annotations: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            TrackIndex(annotations)
    assert not list(annotations.parent.glob("*.index"))
    assert len(TrackIndex(annotations)) == len(read_records(annotations))


def _read(index: TrackIndex, number: int, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    answers.put((os.getpid(), index.record(number)))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_other_processes_read_it(annotations: Path, method: str) -> None:
    index = TrackIndex(annotations)
    mine = index.record(1)  # this process has the file open when the others start
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    workers = [context.Process(target=_read, args=(index, 1, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert len({pid for pid, _ in found} | {os.getpid()}) == 3
    assert all(record == mine for _, record in found)
    assert index.record(0) != mine


def _make(annotations: Path, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    answers.put(len(TrackIndex(annotations)))


def test_processes_that_start_together_make_it_once(annotations: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_make, args=(annotations, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert {answers.get(timeout=60) for _ in workers} == {len(read_records(annotations))}
    for worker in workers:
        worker.join()
    assert sorted(path.suffix for path in annotations.parent.iterdir()) in (
        [".index", ".json"],
        [".index", ".json", ".lock"],
    )


def test_a_folder_for_indices_keeps_files_of_one_name_apart(annotations: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    folder = tmp_path / "indices"
    paths = {TrackIndex(path, folder=folder).path for path in (annotations, _copy(annotations, other))}
    assert len(paths) == 2
    assert all(path.parent == folder for path in paths)
    assert not list(other.glob("*.index"))


def test_a_copy_brings_no_open_file(annotations: Path) -> None:
    index = TrackIndex(annotations)
    assert index.record(0) == pickle.loads(pickle.dumps(index)).record(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"obj_id": 1}, {"obj', "expected JSON in UTF-8, got something else"),
        (b'["\xff"]', "expected JSON in UTF-8"),
        (b"[] []", "expected JSON in UTF-8"),
        (b"", "expected JSON that is a list of tracks, got something else"),
        (b' {"annotations": []}', "expected JSON that is a list of tracks, got an object"),
        (b"[]", "expected at least one track, got an empty list"),
        (b"[null]", "track 0: expected an object with a track's keys, got NoneType"),
    ],
)
def test_what_is_no_list_of_tracks_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        TrackIndex(path).record(0)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_a_folder_that_cannot_be_written_are_named(annotations: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        TrackIndex(tmp_path / "none.json")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be written .* data\.index_folder"):
        TrackIndex(annotations, folder=tmp_path / "file")
