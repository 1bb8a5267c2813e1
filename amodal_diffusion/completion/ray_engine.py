"""Ray as the engine of a batch: processes, placement and restarts are Ray's, order and count of tries are ours."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.clip_queue import TRIES, ClipQueue, Job
from amodal_diffusion.completion.clip_work import ClipRecord, failed
from amodal_diffusion.completion.networks import Places
from amodal_diffusion.completion.ray_actor import FETCHING, WATCHING, ClipActor, Setup
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.completion.run_options import RunOptions
from amodal_diffusion.completion.run_record import weights_of
from amodal_diffusion.completion.storage_options import StorageOptions
from amodal_diffusion.io.storage import remove, write_bytes
from amodal_diffusion.io.urls import Location
from amodal_diffusion.options import package_version

_ANSWER = 5.0  # seconds in which an address must answer
_OBJECT_STORE = 100 * 2**20  # bytes of a local Ray; what passes between driver and workers is small
_ROUND = 1.0  # seconds after which the driver looks at its workers though none has answered
_STARTS = 3  # deaths in a row of a worker that was never ready, which end the run
_BACK_OFF = 1.0  # seconds before a worker that died is asked again
_LATE = 120.0  # seconds without a worker that is ready, after which a notice says so

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """A Ray that this process is connected to.

    Attributes:
        workers: number of workers to ask for.
        on_gpu: each has a GPU; else each has ``cores`` cores.
        cores: threads of a worker.
        stall: seconds without progress after which a worker counts as dead.
        load: seconds that a worker may take to load its networks; None for any time, as it may have to download them.
    """

    workers: int
    on_gpu: bool
    cores: int
    stall: float
    load: float | None


@contextmanager
def connected(base: CompletionRequest, options: RunOptions) -> Iterator[Cluster]:
    """Connect to a running Ray, or start one on this machine and stop it at the end.

    Args:
        base: names the device.
        options: address, and number of workers.

    Raises:
        InputError: if Ray is not installed, cannot be reached or cannot be started.
    """
    # Before the import, which reads them: no statistics are sent, and a lost worker is no line of Ray's log.
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise InputError("--engine ray: Ray is not installed; pip install 'amodal-diffusion[ray]'") from error
    device, cores = base.model.device, options.cores_per_worker or 1
    if re.fullmatch(r"cuda:\d+", device):
        raise InputError(f"--device: Ray chooses the GPU of each worker, got {device}; give auto, cuda or cpu")
    ours = not ray.is_initialized()
    if ours:
        started = {"address": "local", "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        if options.ray_address is None and options.workers is not None:
            started["num_cpus"] = options.workers * cores  # no machine joins a local Ray, so all of them fit
        where = started if options.ray_address is None else {"address": _answering(options.ray_address)}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise InputError(f"--engine ray: Ray cannot be used ({error})") from error
    try:
        found = ray.cluster_resources()
        on_gpu = device == "cuda" or (device == "auto" and found.get("GPU", 0) >= 1)
        room = int(found.get("GPU", 0)) if on_gpu else int(found.get("CPU", 0)) // cores
        stall = options.stall_minutes * 60
        yield Cluster(options.workers or max(1, room), on_gpu, cores, stall, None if base.model.yes else stall)
    finally:
        if ours:
            ray.shutdown()


def _answering(address: str) -> str:
    """The address of a running Ray, HOST:PORT, at which something answers.

    `ray.init` waits for minutes for a dead address and then ends the process.
    """
    found = address
    if address == "auto":
        noted = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray/ray_current_cluster"
        found = os.environ.get("RAY_ADDRESS", "")
        if not found and noted.is_file():
            found = noted.read_text(encoding="utf-8").strip()
        if not found:
            raise InputError("--ray-address: no Ray runs on this machine; `ray start --head` starts one")
    if found.startswith("ray://"):
        raise InputError(
            f"--ray-address: ray:// is for clients from outside, got {found}; start the command on a machine of the "
            "cluster, such as the first one, and give auto, or HOST:PORT of `ray start --head` (port 6379)"
        )
    host, _, port = found.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InputError(f"--ray-address: expected auto or HOST:PORT, such as 10.0.0.1:6379, got {found}")
    try:
        with socket.create_connection((host, int(port)), timeout=_ANSWER):
            return found
    except OSError as error:
        raise InputError(
            f"--ray-address: nothing answers at {found} ({error.strerror or error}); start Ray there with "
            "`ray start --head`, or give another address"
        ) from error


@contextmanager
def run_on_ray(
    queue: ClipQueue,
    base: CompletionRequest,
    cluster: Cluster,
    places: Places,
    storage: StorageOptions,
    marker: Location,
) -> Iterator[Iterator[ClipRecord]]:
    """Workers that complete the clips of a queue; they end with the context.

    Args:
        queue: the clips.
        base: settings that all clips share.
        cluster: gives room to the workers.
        places: folders of the networks on this machine.
        storage: limits of transfers.
        marker: file in the folder or bucket of the results that is written now, read by each worker, and removed at the
            end.

    Yields:
        computes the clips and gives the record of each when it ends.

    Raises:
        InputError: if the folder or bucket of the results cannot be written.
    """
    token = uuid4().hex
    write_bytes(marker, token.encode())
    inputs, weights = base.network_inputs(), weights_of(places)
    setup = Setup(base, inputs, weights, cluster.cores, Path.cwd(), marker, token, storage)
    engine = _Engine(queue, setup, cluster)
    try:
        yield engine.records()
    finally:
        engine.end()
        with suppress(InputError):  # such as a bucket that no longer answers
            remove(marker)


@dataclass
class _Seat:
    """A worker, as the driver knows it.

    Attributes:
        actor: Ray's handle.
        host: name of its machine.
        doing: what was asked of it.
        call: the answer that is due; None while it is idle, or until ``ask_at``.
        ask_at: time at which a worker that died is asked to begin again.
        job: the clip that it computes.
        second: the clip whose inputs it fetches meanwhile.
        starts: deaths in a row before it was ready.
        was_ready: whether it was ready once; then it may die as often as it will.
        pulse: a number that grows with progress, asked for; None if it is not.
        ticks: the last such number.
        alive_at: time of the last progress.
        stalled: whether it was killed as it made no progress.
    """

    actor: Any
    host: str = ""
    doing: Literal["about", "begin", "idle", "complete"] = "about"
    call: Any = None
    ask_at: float = 0.0
    job: Job | None = None
    second: Job | None = None
    starts: int = 0
    was_ready: bool = False
    pulse: Any = None
    ticks: int = -1
    alive_at: float = 0.0
    stalled: bool = False

    @property
    def place(self) -> str:
        """The worker in messages, by its machine where that is known."""
        return f"worker on {self.host}" if self.host else "a worker"


class _Engine:
    """Hands clips to workers, and takes them back from those that die."""

    def __init__(self, queue: ClipQueue, setup: Setup, cluster: Cluster) -> None:
        import ray

        self._ray, self._queue, self._cluster = ray, queue, cluster
        self._setup = ray.put(setup)
        room = {"num_gpus": 1} if cluster.on_gpu else {"num_cpus": cluster.cores, "num_gpus": 0}
        # Ray restarts a worker as often as it dies, and never repeats a call: whether a clip is tried again is ours.
        make = ray.remote(max_restarts=-1, max_task_retries=0, concurrency_groups={FETCHING: 1, WATCHING: 1}, **room)(
            ClipActor
        )
        self._seats = [_Seat(make.remote()) for _ in range(cluster.workers)]
        self._late_at: float | None = time.monotonic() + _LATE

    def records(self) -> Iterator[ClipRecord]:
        """Compute all clips; gives the record of each when it ends.

        Raises:
            InputError: if a worker's machine does not fit to the driver's, or a worker cannot begin.
        """
        while True:
            for seat in self._seats:
                if seat.doing == "idle":
                    self._assign(seat)
                elif seat.call is None and time.monotonic() >= seat.ask_at:
                    seat.doing, seat.call, seat.stalled = "about", seat.actor.about.remote(), False
            self._tell_if_none_begins()
            if self._queue.is_empty and not any(seat.doing == "complete" for seat in self._seats):
                return  # though workers begin anew, or wait for room
            due = {seat.call: seat for seat in self._seats if seat.call is not None}
            if due:
                ready, _ = self._ray.wait(list(due), num_returns=1, timeout=_ROUND)
                for call in ready:
                    yield from self._answered(due[call])
            else:
                time.sleep(_ROUND / 10)
            self._watch()

    def _tell_if_none_begins(self) -> None:
        """Say once that the workers wait, such as for a GPU that the cluster does not have, or has no longer."""
        if any(seat.doing in ("idle", "complete") for seat in self._seats):
            self._late_at = time.monotonic() + _LATE
        elif self._late_at is not None and time.monotonic() > self._late_at:
            wanted = "a GPU" if self._cluster.on_gpu else f"{self._cluster.cores} core(s)"
            logger.warning("no worker is ready; each waits for %s of the cluster, or loads its networks", wanted)
            self._late_at = None

    def end(self) -> None:
        """End all workers, which remove their copies of inputs first."""
        begun = [seat for seat in self._seats if seat.doing in ("idle", "complete")]
        with suppress(Exception):  # such as a cluster that is gone
            closing = [seat.actor.close.options(concurrency_group=WATCHING).remote() for seat in begun]
            if closing:
                self._ray.wait(closing, num_returns=len(closing), timeout=_ANSWER)
        for seat in self._seats:
            with suppress(Exception):  # such as a cluster that is gone
                self._ray.kill(seat.actor)

    def _assign(self, seat: _Seat) -> None:
        """Give a clip to an idle worker, and the next one to fetch."""
        job, seat.second = seat.second, None
        if job is None:
            job = self._queue.take() or self._waiting_elsewhere()
        if job is None:
            return
        seat.job, seat.doing, seat.call = job, "complete", seat.actor.complete.remote(job.entry)
        seat.alive_at, seat.stalled, seat.pulse = time.monotonic(), False, None
        # A clip on which a worker has died is computed alone, and such a clip waits for a worker without a second one.
        if not job.deaths and not self._queue.has_charged:
            seat.second = self._queue.take_second()
        if seat.second is not None:
            seat.actor.fetch.options(concurrency_group=FETCHING).remote(seat.second.entry)

    def _waiting_elsewhere(self) -> Job | None:
        """A clip that waits for a worker which still computes another one, when the list is at its end."""
        for seat in self._seats:
            if seat.second is not None:
                job, seat.second = seat.second, None
                return job
        return None

    def _answered(self, seat: _Seat) -> Iterator[ClipRecord]:
        """Deal with the answer of a worker, or with its death."""
        call, seat.call = seat.call, None
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            if seat.doing != "complete" or seat.job is None:
                why = " ".join(str(error.cause).split())
                raise InputError(f"{seat.place}: cannot begin ({why}); is the package installed there?") from error
            job, seat.job, seat.doing = seat.job, None, "idle"
            yield failed(job.entry, f"{type(error.cause).__name__}: {error.cause}", trace=str(error))
        except self._ray.exceptions.RayError as error:
            if seat.doing == "about" and isinstance(error, self._ray.exceptions.ActorUnavailableError):
                seat.ask_at = time.monotonic() + _BACK_OFF  # Ray restarts it, or waits for room
            else:
                yield from self._died(seat, " ".join(str(error).split()))
        else:
            yield from self._took(seat, answer)

    def _took(self, seat: _Seat, answer: Any) -> Iterator[ClipRecord]:  # noqa: ANN401 - of any of its methods
        """Go on with the answer of a worker."""
        if seat.doing == "about":
            version, host = answer
            if version != package_version():
                raise InputError(
                    f"worker on {host}: has amodal-diffusion {version}, and this is {package_version()}; install the "
                    "same version on all machines"
                )
            seat.host, seat.alive_at = host, time.monotonic()
            seat.doing, seat.call = "begin", seat.actor.begin.remote(self._setup)
        elif seat.doing == "begin":
            if answer is not None:
                raise InputError(f"{seat.place}: {answer}")
            seat.doing, seat.starts, seat.was_ready = "idle", 0, True
        elif seat.job is not None:
            job, seat.job, seat.doing = seat.job, None, "idle"
            yield from self._computed(seat, job, answer)

    def _computed(self, seat: _Seat, job: Job, record: ClipRecord) -> Iterator[ClipRecord]:
        """Give the record of a clip, or have the clip tried again."""
        if record.trouble == "device":
            seat.job = job
            self._ray.kill(seat.actor, no_restart=False)
            yield from self._died(seat, record.error or "")
        elif record.trouble == "in use" and self._queue.hold(job):
            return
        elif record.status == "finished before" and (job.deaths or job.in_use_since is not None):
            yield replace(record, status="completed")  # by a worker of this run that died before it could say so
        else:
            yield record

    def _died(self, seat: _Seat, reason: str) -> Iterator[ClipRecord]:
        """Charge the clip that was computed, take back the one that waited, and have the worker begin again."""
        if seat.doing in ("about", "begin"):
            self._count_start(seat, reason)
        job, second, seat.job, seat.second = seat.job, seat.second, None, None
        seat.doing, seat.call, seat.ask_at = "about", None, time.monotonic() + _BACK_OFF
        if second is not None:
            self._queue.give_back(second)
        if job is None:
            return
        stalled = f"its worker made no progress for {self._cluster.stall / 60:g} minutes"
        why = stalled if seat.stalled else "its worker died"
        if self._queue.charge(job):
            logger.warning("%s: %s; it is tried again", job.entry.name, why)
        else:
            yield failed(job.entry, f"tried {TRIES} times; the last time {why}", trace=reason)

    def _count_start(self, seat: _Seat, reason: str) -> None:
        """Note that a worker died before it was ready; one that never was ready has few tries."""
        seat.starts += 1
        if seat.stalled:
            reason = f"not ready after {self._cluster.stall / 60:g} minutes; --stall-minutes waits longer"
        if seat.starts >= _STARTS and not seat.was_ready:
            raise InputError(f"{seat.place}: died {_STARTS} times in a row while it loaded its networks ({reason})")
        if seat.starts == 1:
            logger.warning("%s: died while it loaded its networks (%s); it begins anew", seat.place, reason)

    def _watch(self) -> None:
        """Kill workers that have made no progress for too long, or that load for too long."""
        now = time.monotonic()
        for seat in self._seats:
            if seat.doing == "complete":
                self._ask_for_progress(seat, now)
                limit: float | None = self._cluster.stall
            else:
                limit = self._cluster.load if seat.doing == "begin" else None
            if limit is not None and not seat.stalled and now - seat.alive_at > limit:
                seat.stalled = True
                self._ray.kill(seat.actor, no_restart=False)

    def _ask_for_progress(self, seat: _Seat, now: float) -> None:
        """Ask a worker that computes for its number of steps, and note when the number has grown."""
        if seat.pulse is None and now - seat.alive_at > self._cluster.stall / 4:
            seat.pulse = seat.actor.ticks.options(concurrency_group=WATCHING).remote()
        if seat.pulse is not None and self._ray.wait([seat.pulse], timeout=0)[0]:
            with suppress(self._ray.exceptions.RayError):  # a death is seen by the call itself
                ticks = self._ray.get(seat.pulse)
                if ticks != seat.ticks:
                    seat.ticks, seat.alive_at = ticks, now
            seat.pulse = None
