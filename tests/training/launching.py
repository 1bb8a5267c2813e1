"""Start training processes and see all of them end: forked with everything imported, or as a user does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

from torch.distributed import TCPStore

ROOT = Path(__file__).resolve().parents[2]
TWO_PROCESSES = ROOT / "configs/accelerate/cpu_two_processes.yaml"
LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES))


@contextmanager
def started(*command: str, folder: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """A command in a folder and a process group of its own, none of which is left afterwards."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with_children_killed(process)


def with_children_killed(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def run(*command: str, status: int = 0, folder: Path = ROOT) -> str:
    """Run a command to its end; what it printed.

    Args:
        command: program and arguments.
        status: that it must exit with.
        folder: that it runs in.
    """
    with started(*command, folder=folder) as process:
        printed, _ = process.communicate(timeout=600)
    assert process.returncode == status, printed
    return printed


def launch(*command: str, status: int = 0) -> str:
    """Run a script or `-m MODULE` in two processes on the CPU; what they printed."""
    return run(*LAUNCH, *command, status=status)


def launch_as(kind: str, *command: str, status: int = 0) -> str:
    """Likewise, as `configs/accelerate/KIND.yaml` says: with the network or the optimizer shared out over both."""
    config = ROOT / f"configs/accelerate/{kind}.yaml"
    return run(*LAUNCH[:-1], str(config), "--num_processes", "2", *command, status=status)


# Importing torch, diffusers and transformers takes far longer than a tiny run. Only the server of forks imports them;
# it never trains, so that its forks are as fresh as new interpreters.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.training.drills"])


@dataclass(frozen=True)
class Group:
    """Processes of one training run.

    Attributes:
        processes: in order of rank.
        log: file of all that they print.
    """

    processes: Sequence[BaseProcess]
    log: Path

    def send(self, number: int) -> None:
        """Send a signal to all."""
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, number)

    def wait(self, status: int = 0) -> str:
        """Wait until all have ended with this status; what they printed."""
        for process in self.processes:
            process.join()
        printed = self.log.read_text()
        assert [process.exitcode for process in self.processes] == [status] * len(self.processes), printed
        return printed


@contextmanager
def forked(drills: str, folder: Path, *arguments: str, processes: int = 2) -> Iterator[Group]:
    """Train in processes that find the environment `accelerate launch` makes; none is left afterwards.

    Args:
        drills: names of drills (tests/training/drills.py) with "+" between them, or nothing.
        folder: takes what they record, and what the processes print.
        arguments: of the training's command line.
        processes: how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with mock.patch.dict(os.environ, {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}):
        ensure_running()
    log = folder / "printed.txt"
    log.write_text("")
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # on a port that is free
    launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    ranks = [
        {**launch, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        for rank in range(processes)
    ]
    group = Group(
        [
            FORKS.Process(target=_train, args=(environment if processes > 1 else {}, log, drills, folder, arguments))
            for environment in ranks
        ],
        log,
    )
    try:
        for process in group.processes:
            process.start()
        yield group
    finally:
        for process in group.processes:
            process.kill()
            process.join()
        del store


def _train(environment: dict[str, str], log: Path, drills: str, folder: Path, arguments: Sequence[str]) -> None:
    """Train in a forked process."""
    from tests.training.drills import train_with  # here, as drills is what the server of forks imports

    os.environ |= environment
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(train_with(drills, folder, arguments))


def fork(drills: str, folder: Path, *arguments: str, processes: int = 2, status: int = 0) -> str:
    """Likewise, to the end; what the processes printed."""
    with forked(drills, folder, *arguments, processes=processes) as group:
        return group.wait(status)
