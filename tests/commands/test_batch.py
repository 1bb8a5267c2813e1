"""`batch`: every clip of a list, whatever happens to one of them, on any number of processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.completion import batch as completion_batch
from amodal_diffusion.completion import clip_work, objects
from amodal_diffusion.completion.batch import Batch, complete_many
from amodal_diffusion.completion.clip_work import ClipRecord, ClipWorker, LocalClip
from amodal_diffusion.completion.request import CompletionRequest, Output, Source
from amodal_diffusion.completion.run_options import RunOptions
from amodal_diffusion.completion.run_record import TakenOverError
from amodal_diffusion.completion.storage_options import StorageOptions
from amodal_diffusion.completion.stored_clips import LookedUp
from amodal_diffusion.completion.tally import Tally
from amodal_diffusion.data.clip_list import ClipEntry, read_clip_list
from amodal_diffusion.io.manifest import LOCK, locked
from amodal_diffusion.pipelines.completer import AmodalCompleter
from tests.media import moving_disc, write_frames, write_masks

NAMES = ("a_frames", "b_frames_1", "deep")


@pytest.fixture
def command(tmp_path: Path, model: Path) -> list[str]:
    """A list of three clips, one of which has depth."""
    rgb, mask = moving_disc(3, 24, 40)
    for index, name in enumerate("abc"):
        write_frames(tmp_path / name / "frames", np.roll(rgb, index, axis=1))
        write_masks(tmp_path / name / "masks", np.roll(mask, index, axis=1))
    np.save(tmp_path / "c/depth.npy", np.random.default_rng(0).random(mask.shape, dtype=np.float32))
    rows = [
        {"clip": "a/frames", "masks": "a/masks"},
        {"clip": "b/frames", "masks": "b/masks", "object": 1},
        {"clip": "c/frames", "masks": "c/masks", "depth": "c/depth.npy", "name": "deep"},
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--model", str(model), "--device", "cpu", "--stages", "masks", "-q"]
    return ["--input", str(tmp_path / "list.jsonl"), *options]


def batch(command: list[str], out: Path) -> int:
    return main(["batch", *command, "--out", str(out)])


def results(out: Path) -> dict[str, bytes]:
    """All files of results but those that tell when and where they were made."""
    told = ("manifest.json", "summary.json", "object.json", "run.json")
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.*") if path.name not in told}


def times(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*.png")}


def test_one_failure_and_the_rest_later(tmp_path: Path, command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    out, mask = tmp_path / "out", tmp_path / "b/masks/00001.png"
    sound = mask.read_bytes()
    mask.write_bytes(b"")
    assert batch(command, out) == 1
    printed = capfd.readouterr()
    assert printed.out.startswith("2 completed, 0 finished before, 1 failed; 1 process(es)\n")
    error = f"{mask}: the file is empty (0 bytes)"
    assert f"failed: b_frames_1: {error}" in printed.err
    failure = {"name": "b_frames_1", "clip": str(tmp_path / "b/frames"), "error": error, "trace": None}
    assert json.loads((out / "failures.json").read_text()) == [failure]
    assert sorted(path.name for path in out.iterdir()) == ["a_frames", "deep", "failures.json", "run.json"]
    assert json.loads((out / "deep/summary.json").read_text())["depth"] == "given"

    mask.write_bytes(sound)
    finished = times(out)
    assert batch(command, out) == 0
    assert capfd.readouterr().out.startswith("1 completed, 2 finished before, 0 failed; 1 process(es)\n")
    assert sorted(path.name for path in out.iterdir()) == sorted([*NAMES, "run.json"])
    assert finished.items() <= times(out).items()


def test_an_interrupted_batch_goes_on_with_networks_loaded_once(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, loaded, write = tmp_path / "out", [], objects.write_mask_png
    load = AmodalCompleter.from_pretrained.__func__

    def interrupt(path: Path, mask: np.ndarray) -> None:
        if "deep.partial" in path.parts and path.stem == "00001":
            raise KeyboardInterrupt
        write(path, mask)

    def counted(cls: type[AmodalCompleter], *arguments: object, **options: object) -> AmodalCompleter:
        loaded.append(cls)
        return load(cls, *arguments, **options)

    monkeypatch.setattr(AmodalCompleter, "from_pretrained", classmethod(counted))
    monkeypatch.setattr(objects, "write_mask_png", interrupt)
    assert batch(command, out) == 130
    assert "the same command again goes on" in capfd.readouterr().err
    assert len(loaded) == 1
    finished = times(out)
    assert {Path(name).relative_to(out).parts[0] for name in finished} >= {"a_frames", "b_frames_1"}
    monkeypatch.setattr(objects, "write_mask_png", write)
    assert batch(command, out) == 0
    assert "1 completed, 2 finished before" in capfd.readouterr().out
    kept = {name: time for name, time in finished.items() if "deep" not in name}
    assert kept.items() <= times(out).items()
    assert not list(out.glob("*.partial"))


def test_a_clip_on_which_the_program_fails(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    complete = clip_work.complete_clip

    def fail(request: CompletionRequest, **given: Any) -> Path:
        if request.source.object == "1":
            raise RuntimeError("out of\nmemory")
        return complete(request, **given)

    monkeypatch.setattr(clip_work, "complete_clip", fail)
    assert batch(command, tmp_path / "out") == 1
    assert "failed: b_frames_1: RuntimeError: out of memory\n" in capfd.readouterr().err
    (failure,) = json.loads((tmp_path / "out/failures.json").read_text())
    assert "Traceback" in failure["trace"]
    assert (tmp_path / "out/deep").is_dir()


def test_a_device_that_fails_ends_the_run(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> Path:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(clip_work, "complete_clip", fail)
    assert batch(command, tmp_path / "out") == 2
    assert capfd.readouterr().err.strip().endswith("encountered; the device fails, and the same command goes on")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_run_with_other_settings_is_refused_before_any_work(
    tmp_path: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("a/frames\ta/masks\n")
    one = ["--input", str(tmp_path / "list.txt"), *command[2:]]
    out = tmp_path / "out"
    assert batch([*one, "--height", "33"], out) == 2  # which leaves nothing that binds the next run
    assert batch(one, out) == 0
    capfd.readouterr()
    assert batch([*one, "--seed", "3"], out) == 2
    problem = (
        f"error: out: {out / 'run.json'}: begun with other seed; give the same, choose another folder, or --overwr"
    )
    assert capfd.readouterr().err.startswith(problem)
    assert batch([*one, "--seed", "3", "--overwrite"], out) == 0
    assert json.loads((out / "a_frames/summary.json").read_text())["seed"] == 3
    assert json.loads((out / "run.json").read_text())["settings"]["seed"] == 3


def test_too_many_failures_stop_the_run(tmp_path: Path, command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    rows = [f"none/{number}.mp4\ta/masks\n" for number in range(4)]
    (tmp_path / "list.txt").write_text("".join(rows))
    out = tmp_path / "out"
    options = ["--input", str(tmp_path / "list.txt"), *command[2:], "--max-failures", "2"]
    assert batch(options, out) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("stopped: 3 clips failed, and --max-failures is 2; most frequent reason (3 of 3): ")
    assert said.endswith("0.mp4: no such file or folder; the same command goes on")
    assert len(json.loads((out / "failures.json").read_text())) == 3


class OneOfTwo:
    """A process of a launch of two, which must not wait for the other one."""

    count = 2

    def __init__(self, index: int) -> None:
        self.index, self.is_main = index, index == 0


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("error", [TakenOverError("taken over"), InputError("no list"), KeyboardInterrupt()])
def test_a_process_that_cannot_go_on_ends_its_launch(
    tmp_path: Path,
    index: int,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    base = CompletionRequest(Source(clip=Path()), Output(out=tmp_path, quiet=True))

    def records() -> Iterator[ClipRecord]:
        yield ClipRecord("a", "a.mp4", "failed", error="wrong")
        raise error

    @contextmanager
    def opened(*_: object) -> Iterator[Batch]:
        clips = LookedUp(read_clip_list(({"clip": "a.mp4", "masks": "a"},)), base)
        yield Batch(clips, base, RunOptions(), None, Tally(), records(), 2)

    monkeypatch.setattr(completion_batch, "_processes", lambda _: OneOfTwo(index))
    monkeypatch.setattr(completion_batch, "opened_batch", opened)
    ends, status = (SystemExit, "2") if isinstance(error, InputError) else (KeyboardInterrupt, None)
    with pytest.raises(ends, match=status):
        completion_batch.complete_list(tmp_path / "list.csv", base, RunOptions(), StorageOptions())
    if isinstance(error, InputError):
        assert capfd.readouterr().err.strip().endswith(f"error: {error}")
    main_knows = index == 0 and not isinstance(error, TakenOverError)
    assert (tmp_path / "failures.json").exists() == main_knows
    many = complete_many(tmp_path / "list.csv", tmp_path / "many")
    assert next(many).name == "a"
    with pytest.raises(type(error)):
        next(many)
    assert (tmp_path / "many/failures.json").exists() == main_knows


def test_a_clip_that_another_run_still_holds(
    tmp_path: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("a/frames\ta/masks\n")
    command, out = ["--input", str(tmp_path / "list.txt"), *command[2:]], tmp_path / "out"
    held = out / "a_frames.partial"
    held.mkdir(parents=True)
    with locked(held / LOCK):
        assert batch(command, out) == 1
    error = f"out: {held}: another run is at work in it; wait for it to end, then run the same command again, which com"
    assert f"failed: a_frames: {error}" in capfd.readouterr().err
    assert batch(command, out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a_frames", "run.json"]


def test_notices_name_their_clip_and_hide_what_urls_hide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    signed, copy = "https://host/a.mp4?X-Amz-Signature=0123456789abcdef", tmp_path / "scratch/0.mp4"
    out = tmp_path / "out"
    out.mkdir()
    base = CompletionRequest(Source(clip=Path()), Output(out=out, quiet=True))
    worker = ClipWorker(base, {}, threads=None, storage=StorageOptions())

    def complete(*_: object) -> tuple[str, int]:
        clip_work.logging.getLogger("amodal_diffusion.io").warning("%s, from %s:\nodd", copy, signed)
        clip_work.logging.getLogger("amodal_diffusion.io").info("nothing")
        return "completed", 3

    monkeypatch.setattr(worker, "_complete", complete)
    request = replace(base, copied_from={str(copy): "https://host/a.mp4"})
    entry = ClipEntry("a", signed, Path("masks"))
    record = worker.complete(entry, lambda: LocalClip(request, {}, None))
    assert record.notices == ("https://host/a.mp4, from https://host/a.mp4: odd",)
    assert caplog.records == []  # the notice has no clip before the record does
    clips = LookedUp(read_clip_list(({"clip": "a.mp4", "masks": "a"},)), base)
    run = Batch(clips, base, RunOptions(), None, Tally(), iter([record]), 1)
    assert list(run.run()) == [record]
    assert [entry.getMessage() for entry in caplog.records] == [f"a: {record.notices[0]}"]


@pytest.mark.usefixtures("command")
def test_one_record_for_each_clip_in_python(tmp_path: Path, model: Path) -> None:
    rows = [{"clip": tmp_path / name / "frames", "masks": tmp_path / name / "masks", "name": name} for name in "ab"]
    options = {"model": str(model), "device": "cpu", "stages": "masks"}
    records = list(complete_many([*rows, {"clip": "none", "masks": "none"}], tmp_path / "out", options=options))
    assert [(record.name, record.status, record.frames) for record in records] == [
        ("a", "completed", 3), ("b", "completed", 3), ("none", "failed", 0)
    ]  # fmt: skip
    assert len(json.loads((tmp_path / "out/failures.json").read_text())) == 1
    with pytest.raises(InputError, match="options: stagess is unknown"):
        complete_many(rows, tmp_path / "out", options={"stagess": "masks"})  # before a record is read
    with pytest.raises(InputError, match="options: out: give the folder as the second argument"):
        complete_many(rows, tmp_path / "out", options={"out": "elsewhere"})
    with pytest.raises(InputError, match=r"options: workers: give it as run=RunOptions\(workers=...\)"):
        complete_many(rows, tmp_path / "out", options={"workers": 2})
    with pytest.raises(InputError, match=r"clips: expected rows such as .* got str"):
        complete_many(["a.mp4"], tmp_path / "out")  # type: ignore[list-item]
    with pytest.raises(InputError, match="engine: expected ray as run says, got local; give one of them"):
        complete_many(rows, tmp_path / "out", engine="local", run=RunOptions(engine="ray"))
    with pytest.raises(InputError, match="options: stages: expected masks, all, got some"):
        next(complete_many(rows, tmp_path / "out", options={"stages": "some"}))
    with pytest.raises(InputError, match="seed: expected at least 0, got -1"):
        next(complete_many(rows, tmp_path / "out", options={"seed": -1}))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--input", "nowhere.csv"], "input: nowhere.csv: cannot be read"),
        (["--depth", "depth.npy"], "--depth: expected auto or none for all clips, got depth.npy"),
        (["--height", "33"], "height: "),
        (["--workers", "2"], "--workers: 2 workers need --engine ray, or accelerate launch --num_processes 2"),
        (["--out", "list.jsonl/out"], "out: list.jsonl/out: cannot be created (Not a directory)"),
        (["--ray-address", "auto"], "--ray-address: is for --engine ray; give both or neither"),
    ],
)
def test_mistakes_of_the_whole(
    tmp_path: Path,
    command: list[str],
    options: list[str],
    problem: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["batch", *command, "--out", str(tmp_path / "out"), *options]) == 2
    assert capfd.readouterr().err.startswith(f"error: {problem}")
