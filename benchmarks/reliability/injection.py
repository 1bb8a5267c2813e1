"""Faults that a process does to itself, at a place that a seed decides: it dies, the disk is full, a read fails."""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "shutil.rmtree")
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000


class FileEvents:
    """Counts what a process does to files below a folder, and acts at one of these events.

    Attributes:
        count: events so far.
    """

    def __init__(self, folder: Path) -> None:
        """Count from now on; a hook of this kind stays until the process ends."""
        self.count = 0
        self._folder, self._place, self._signal = str(folder), 0, 0
        sys.addaudithook(self._note)

    def die_at(self, place: int, number: int) -> None:
        """Send a signal to the own process at an event, counted from 1."""
        self._place, self._signal = place, number

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in FILE_EVENTS or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        if path.startswith("/") and not path.startswith(self._folder):
            return
        self.count += 1
        if self.count == self._place:
            os.kill(os.getpid(), self._signal)


class Reads:
    """Counts the files below a folder that are opened for reading, and fails one of these with EIO.

    Attributes:
        count: files so far.
    """

    def __init__(self, folder: Path) -> None:
        """Take the place of Python's `open`."""
        self.count = 0
        self._folder, self._place, self._open = str(folder), 0, io.open
        builtins.open = io.open = self._opened  # type: ignore[assignment]

    def fail_at(self, place: int) -> None:
        """Fail the file of this number, counted from 1."""
        self._place = place

    def _opened(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        reads = not isinstance(file, int) and not set(mode) & set("wax+")
        if reads and os.path.abspath(file).startswith(self._folder):  # noqa: PTH100 - a path as the caller gives it
            self.count += 1
            if self.count == self._place:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))
        return self._open(file, mode, *arguments, **options)


def limit_files(size: int) -> None:
    """Let the system refuse to make any file larger than this, in bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Let a folder be on a disk of its own that holds this many bytes; what is on it in the end comes back.

    Args:
        folder: is there already; its files are copied to the disk.
        size: bytes, beside those of the files that are there.

    Raises:
        OSError: if the system has no namespaces for it.
    """
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    kept = folder.with_name(folder.name + ".kept")
    shutil.copytree(folder, kept, symlinks=True)
    held = sum(path.stat().st_size // 4096 + 1 for path in kept.rglob("*")) * 4096
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={held + size}".encode()):
        raise OSError(ctypes.get_errno(), "mount")
    shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
    try:
        yield
    finally:
        sys.stdout.flush()
        shutil.rmtree(kept)
        os.chdir("/")
        shutil.copytree(folder, kept, symlinks=True)


def flip_bits(path: Path, rng: Any) -> None:  # noqa: ANN401 - numpy's generator
    """Flip one to eight bits of a file at random places, or cut it off at a random place."""
    data = bytearray(path.read_bytes())
    if not data or rng.random() < 0.3:
        path.write_bytes(data[: int(rng.integers(0, max(len(data), 1)))])
        return
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
