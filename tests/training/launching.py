"""Start training processes as a user does, and see all of them end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
