"""Ray as the engine: results to the byte, workers that die or hang, machines that do not fit, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.completion import ray_engine
from amodal_diffusion.completion.batch import complete_many
from amodal_diffusion.completion.clip_queue import TRIES, ClipQueue
from amodal_diffusion.completion.clip_work import ClipRecord
from amodal_diffusion.completion.networks import Places
from amodal_diffusion.completion.ray_actor import ClipActor, Setup
from amodal_diffusion.completion.request import CompletionRequest, DepthChoice, ModelChoice, Output, Source
from amodal_diffusion.completion.run_options import RunOptions
from amodal_diffusion.completion.run_record import weights_of
from amodal_diffusion.data.clip_list import ClipEntry, read_clip_list
from tests.media import moving_disc, write_frames, write_masks
from tests.training.launching import launch, started

FRAMES = (3, 5, 4, 3, 6, 4)
POISON = "n4"  # the longest clip


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A list of six clips."""
    rows = []
    for index, frames in enumerate(FRAMES):
        rgb, mask = moving_disc(frames, 24, 40)
        write_frames(tmp_path / f"{index}/frames", np.roll(rgb, index, axis=1))
        write_masks(tmp_path / f"{index}/masks", np.roll(mask, index, axis=1))
        rows.append({"clip": f"{index}/frames", "masks": f"{index}/masks", "name": f"n{index}", "frames": frames})
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def results(out: Path) -> dict[str, bytes]:
    """All files but those that hold times and paths."""
    told = ("manifest.json", "summary.json", "object.json", "run.json", "failures.json")
    found = (path for path in out.rglob("*") if path.is_file() and path.name not in told)
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def holders(lock: Path) -> list[int]:
    """Processes that have a file open; of the lock of a result folder that is the worker at work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # a process that ends, or another user's
            if any(file.readlink() == lock for file in (entry / "fd").iterdir()):
                found.append(int(entry.name))
    return found


@contextmanager
def loading_disturbed(number: int, times: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """As long as the context lasts, send a signal to workers of this test that load their networks.

    Args:
        number: of the signal.
        times: that it is sent, to another process each.
        monkeypatch: marks the environment of the workers, as other tests may have some at the same time.
    """
    mark = uuid4().hex
    monkeypatch.setenv("AMODAL_TEST", mark)

    def find() -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # a process that ends, or another user's
                loads = b"ClipActor.begin" in (entry / "cmdline").read_bytes()
                if loads and mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    with signalled(find, number, times) as sent:
        yield sent


@contextmanager
def disturbed(out: Path, number: int, times: int) -> Iterator[list[int]]:
    """As long as the context lasts, send a signal to the worker whenever it computes one clip.

    Args:
        out: parent of the results.
        number: of the signal.
        times: that it is sent, to another process each.
    """
    lock = out / f"{POISON}.partial/.lock"
    with signalled(lambda: holders(lock) if lock.exists() else [], number, times) as sent:
        yield sent


@contextmanager
def signalled(find: Callable[[], list[int]], number: int, times: int) -> Iterator[list[int]]:
    """As long as the context lasts, send a signal to processes; gives those that got it.

    Args:
        find: the processes that get it, each once.
        number: of the signal.
        times: that it is sent.
    """
    sent: list[int] = []
    end = threading.Event()

    def disturb() -> None:
        while len(sent) < times and not end.wait(0.001):
            for process in find():
                if process not in sent:
                    os.kill(process, number)
                    sent.append(process)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield sent
    finally:
        end.set()
        thread.join()


def run(clips: Path, out: Path, model: Path, options: RunOptions) -> dict[str, str | None]:
    """Complete a list on Ray; the error of each clip."""
    chosen = {"model": str(model), "device": "cpu"}
    return {
        record.name: record.error for record in complete_many(clips, out, engine="ray", options=chosen, run=options)
    }


def test_a_worker_of_a_real_ray_gives_what_one_process_gives(
    clips: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "one.jsonl"
    one.write_text(clips.read_text().splitlines()[0] + "\n")
    options = ["--input", str(one), "--model", str(model), "--device", "cpu", "-q", "--stages", "masks"]
    assert main(["batch", *options, "--out", str(tmp_path / "alone")]) == 0
    capfd.readouterr()
    ray = ["--engine", "ray", "--workers", "1", "--cores-per-worker", "1"]
    assert main(["batch", *options, "--out", str(tmp_path / "ray"), *ray]) == 0
    printed = capfd.readouterr()
    assert (printed.out.split(";")[0], printed.err) == ("1 completed, 0 finished before, 0 failed", "")
    expected = results(tmp_path / "alone")
    assert len(expected) >= FRAMES[0]
    assert results(tmp_path / "ray") == expected


@pytest.mark.slow
def test_every_engine_gives_the_same_bytes(
    clips: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--input", str(clips), "--model", str(model), "--device", "cpu", "-q", "--cores-per-worker", "1"]
    assert main(["batch", *options, "--out", str(tmp_path / "alone")]) == 0
    launch("-m", "amodal_diffusion", "batch", *options, "--out", str(tmp_path / "launch"))
    for count in ("1", "4"):
        out = tmp_path / f"ray{count}"
        capfd.readouterr()
        assert main(["batch", *options, "--out", str(out), "--engine", "ray", "--workers", count]) == 0
        printed = capfd.readouterr()
        assert printed.out.startswith(f"6 completed, 0 finished before, 0 failed; {count} process(es)\n")
        assert printed.err == ""  # none of Ray's lines
    expected = results(tmp_path / "alone")
    assert len(expected) > 2 * sum(FRAMES)
    assert results(tmp_path / "launch") == results(tmp_path / "ray1") == results(tmp_path / "ray4") == expected


@pytest.mark.slow
def test_a_clip_on_which_workers_die_is_tried_three_times(clips: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with disturbed(out, signal.SIGKILL, times=4) as killed:
        errors = run(clips, out, model, RunOptions(workers=1))
    assert len(killed) == 3
    assert errors.pop(POISON) == "tried 3 times; the last time its worker died"
    assert list(errors.values()) == [None] * 5
    (failure,) = json.loads((out / "failures.json").read_text())
    assert failure["name"] == POISON
    assert run(clips, out, model, RunOptions(workers=1))[POISON] is None
    assert not (out / "failures.json").exists()


@pytest.mark.slow
def test_a_worker_that_hangs_is_restarted(clips: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with disturbed(out, signal.SIGSTOP, times=1) as stopped:
        errors = run(clips, out, model, RunOptions(workers=1, stall_minutes=0.5))
    assert len(stopped) == 1
    assert list(errors.values()) == [None] * 6
    assert (
        main(["batch", "--input", str(clips), "--model", str(model), "--device", "cpu", "-q", "--out", str(out)]) == 0
    )


@pytest.mark.slow
def test_a_worker_that_dies_while_it_loads(
    clips: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with (
        loading_disturbed(signal.SIGKILL, 4, monkeypatch) as killed,
        pytest.raises(InputError, match=f"worker on {socket.gethostname()}: died 3 times in a row .*The actor .*"),
    ):
        run(clips, out, model, RunOptions(workers=1))
    assert len(killed) == 3
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_hangs_while_it_loads(
    clips: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loading_disturbed(signal.SIGSTOP, 1, monkeypatch) as stopped:
        errors = run(clips, tmp_path / "out", model, RunOptions(workers=1, stall_minutes=0.5))
    assert len(stopped) == 1
    assert list(errors.values()) == [None] * 6


@pytest.mark.slow
def test_another_version_on_a_worker_is_one_error(
    clips: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "package_version", lambda: "9.9")
    with pytest.raises(InputError, match=r"worker on .*, and this is 9.9; install the same version on all machines"):
        run(clips, tmp_path / "out", model, RunOptions(workers=1))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_ends_all_workers_and_the_same_command_goes_on(clips: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["batch", "--input", str(clips), "--model", str(model), "--device", "cpu", "-q", "--out", str(out)]
    options += ["--engine", "ray", "--workers", "1"]
    with started(sys.executable, "-m", "amodal_diffusion", *options) as process:
        until((out / f"{POISON}.partial/.lock").exists)
        (worker,) = holders(out / f"{POISON}.partial/.lock")
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.strip().endswith("interrupted; the same command again goes on with what is not finished")
    until(lambda: not Path(f"/proc/{worker}").exists())
    assert not (out / "run.json").exists()  # no clip was complete
    assert main(options) == 0


@pytest.mark.slow
def test_the_only_machine_leaves_and_another_joins_later(
    clips: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, **memory}
    cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head)  # so threads may add machines
    node = cluster.add_node(num_cpus=1, **memory)
    joins = threading.Timer(25.0, lambda: cluster.add_node(num_cpus=1, **memory))  # Ray refuses calls meanwhile
    options, run = {"model": str(model), "device": "cpu"}, RunOptions(workers=1, ray_address=cluster.address)
    errors: dict[str, str | None] = {}
    try:
        for record in complete_many(clips, tmp_path / "out", engine="ray", options=options, run=run):
            if not errors:
                cluster.remove_node(node, allow_graceful=False)
                joins.start()
            errors[record.name] = record.error
    finally:
        joins.cancel()
        cluster.shutdown()
    assert errors == {f"n{index}": None for index in range(len(FRAMES))}


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must happen within two minutes."""
    last = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.01)


def test_without_the_extra(tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray is not installed; pip install 'amodal-diffusion\[ray\]'"):
        run(clips, tmp_path / "out", tmp_path, RunOptions())


def test_an_address_where_nothing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"nothing answers at 127.0.0.1:{port} .*; start Ray there"):
        ray_engine._answering(f"127.0.0.1:{port}")
    with pytest.raises(InputError, match=r"got ray://127.0.0.1:10001; start the command on a machine of the cluster"):
        ray_engine._answering("ray://127.0.0.1:10001")
    with pytest.raises(InputError, match="expected auto or HOST:PORT"):
        ray_engine._answering("10.0.0.1")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match="no Ray runs on this machine"):
        ray_engine._answering("auto")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(InputError, match=f"nothing answers at 127.0.0.1:{port}"):
        ray_engine._answering("auto")


def test_a_worker_compares_its_machine_with_the_drivers(clips: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    base = CompletionRequest(
        Source(clip=Path()),
        Output(out=out, quiet=True, stages="masks"),
        model=ModelChoice(model=str(model), device="cpu"),
        depth=DepthChoice(depth="none"),
    )
    setup = Setup(base, base.network_inputs(), weights_of(Places(base)), 1, Path.cwd(), out / ".shared", "token")
    actor = ClipActor()
    assert actor.about()[1] == socket.gethostname()
    assert "not the folder that the driver sees" in str(actor.begin(setup))
    (out / ".shared").write_text("token")
    other = replace(setup, weights={**setup.weights, "amodal_segmentation": "other"})
    assert actor.begin(other) == "the weights of amodal_segmentation are not those of the driver; install the same"
    assert actor.begin(setup) is None

    entry = ClipEntry("n0", clips.parent / "0/frames", clips.parent / "0/masks")
    missing = ClipEntry("none", clips.parent / "none", clips.parent / "none")
    for fetched in (missing, entry):
        actor.fetch(fetched)
    record = actor.complete(entry)
    assert (record.status, record.frames) == ("completed", FRAMES[0])
    assert actor.ticks() > FRAMES[0]
    assert actor.complete(entry).status == "finished before"
    assert "no such file" in str(actor.complete(missing).error)


class RayError(Exception):
    """In place of Ray's, whose import takes long."""


class ActorUnavailableError(RayError):
    """A worker is restarted, or waits for room."""


class RayTaskError(RayError):
    """A worker raised an exception."""


@pytest.fixture
def engine(clips: Path) -> ray_engine._Engine:
    """An engine with one worker, without Ray."""
    made = object.__new__(ray_engine._Engine)
    made._queue = ClipQueue(read_clip_list(clips))
    made._cluster = ray_engine.Cluster(workers=1, on_gpu=True, cores=1, stall=600, load=600)
    made._seats = [ray_engine._Seat(None)]
    made._late_at = 0.0
    errors = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, ActorUnavailableError=ActorUnavailableError)
    made._ray = SimpleNamespace(exceptions=errors)
    return made


def test_a_worker_whose_machine_has_left_waits_for_another_one(
    engine: ray_engine._Engine, caplog: pytest.LogCaptureFixture
) -> None:
    (seat,) = engine._seats

    def answer(error: RayError) -> None:
        engine._ray.get = lambda _: (_ for _ in ()).throw(error)
        seat.call = object()
        assert list(engine._answered(seat)) == []
        assert (seat.doing, seat.call) == ("about", None)

    for _ in range(2 * ray_engine._STARTS):
        answer(ActorUnavailableError("The actor is restarting"))
    assert seat.starts == 0
    for _ in range(2):
        engine._tell_if_none_begins()
    said = ["no worker is ready; each waits for a GPU of the cluster, or loads its networks"]
    assert [record.getMessage() for record in caplog.records] == said


def test_a_worker_that_never_was_ready_may_die_three_times(
    engine: ray_engine._Engine, caplog: pytest.LogCaptureFixture
) -> None:
    (seat,) = engine._seats
    seat.host = "node-3"

    def die(times: int) -> None:
        for _ in range(times):
            seat.doing = "begin"
            assert list(engine._died(seat, "Socket closed")) == []

    def load() -> None:
        seat.doing = "begin"
        assert list(engine._took(seat, None)) == []
        assert seat.doing == "idle"

    die(2)
    with pytest.raises(InputError, match=r"worker on node-3: died 3 times in a row .* \(Socket closed\)"):
        die(1)
    said = ["worker on node-3: died while it loaded its networks (Socket closed); it begins anew"]
    assert [record.getMessage() for record in caplog.records] == said
    load()
    die(10)
    assert [record.getMessage() for record in caplog.records] == 2 * said
    load()


def test_a_worker_that_loads_too_long_is_killed(engine: ray_engine._Engine) -> None:
    (seat,) = engine._seats
    killed: list[bool] = []
    engine._ray.kill = lambda _, no_restart: killed.append(no_restart)
    seat.doing, seat.host, seat.alive_at, seat.starts = "begin", "node-3", time.monotonic(), 2
    engine._watch()
    assert killed == []
    seat.alive_at -= 601
    engine._cluster = replace(engine._cluster, load=None)  # with --yes, it may still download
    engine._watch()
    assert killed == []
    engine._cluster = replace(engine._cluster, load=600)
    for _ in range(2):
        engine._watch()
    assert killed == [False]
    with pytest.raises(InputError, match=r"3 times in a row .* \(not ready after 10 minutes; --stall-minutes "):
        list(engine._died(seat, "Socket closed"))


def test_a_worker_that_begins_anew_keeps_nobody_waiting_without_a_clip_left(engine: ray_engine._Engine) -> None:
    (seat,) = engine._seats
    engine._queue = ClipQueue([ClipEntry("a", Path("a"), Path("a"))])
    seat.job, seat.doing = engine._queue.take(), "complete"
    for _ in range(TRIES - 1):
        assert list(engine._died(seat, "killed")) == []
        seat.job, seat.doing = engine._queue.take(), "complete"
    assert [record.status for record in engine._died(seat, "killed")] == ["failed"]
    assert list(engine.records()) == []


def test_a_clip_that_another_run_holds_is_listed_after_two_minutes(engine: ray_engine._Engine) -> None:
    (seat,), job = engine._seats, engine._queue.take()
    assert job is not None
    record = ClipRecord(job.entry.name, "a", "failed", error="wait", trouble="in use")
    assert list(engine._computed(seat, job, record)) == []
    assert list(engine._computed(seat, replace(job, in_use_since=time.monotonic() - 121), record)) == [record]
