"""Atomic writes of files and folders, and SHA-256 manifests that detect later damage."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

DIGESTS = "manifest.json"
"""Name of the file that :func:`write_digests` writes."""

PARTIAL, REPLACED = ".partial", ".replaced"
"""Suffixes of unfinished files and folders, and of a folder that is being replaced."""

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)  # errors of a system or file system without this feature

_TEMPORARY = re.compile(rf"(?P<destination>.+)\.[0-9a-f]{{32}}{re.escape(PARTIAL)}", re.DOTALL)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically: an interruption never leaves a partial file.

    Args:
        path: destination; its folder must exist.
        text: the complete content.

    Raises:
        OSError: if the file cannot be written. The old file is kept.
    """
    with replacing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name, sync it to disk, then rename it to its destination.

    Each call uses a unique temporary name, so several processes may write the same file. The last to finish wins.

    Args:
        path: destination; its folder must exist.

    Yields:
        path of the temporary file ``NAME.<random>.partial`` next to the destination. The caller must create it. It is
        removed if the block raises.

    Raises:
        OSError: if the file cannot be synced or renamed. The old file is kept.
    """
    partial = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        yield partial
        _sync_file(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def destination_of(path: Path) -> Path | None:
    """Destination of a temporary file of :func:`replacing_file`; None for any other file."""
    name = _TEMPORARY.fullmatch(path.name)
    return path.with_name(name["destination"]) if name else None


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder, sync it to disk, then let it replace the old folder.

    The two are exchanged in one step where the system can. Elsewhere, if the process is killed between two renames, the
    old folder is left as ``NAME.replaced``, and the next call restores it. Only one process at a time may replace a
    folder.

    Args:
        path: destination; missing parents are created.

    Yields:
        a new, empty folder ``NAME.partial`` next to the destination. It is removed if the block raises.

    Raises:
        OSError: if the folder cannot be written. The old folder is kept.
    """
    partial, replaced = path.with_name(path.name + PARTIAL), path.with_name(path.name + REPLACED)
    if replaced.exists() and not path.exists():
        replaced.rename(path)
    for leftover in (partial, replaced):
        if leftover.exists():
            shutil.rmtree(leftover)
    make_folder(partial)
    try:
        yield partial
        sync_tree(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    put_in_place(partial, path, aside=replaced)
    if replaced.exists():
        shutil.rmtree(replaced)


def put_in_place(fresh: Path, path: Path, *, aside: Path) -> None:
    """Give a finished folder its name; what had this name is moved aside. All is on the disk afterwards.

    Where the system can exchange two folders, there is one of this name at any moment. Elsewhere there is none between
    two renames.

    Args:
        fresh: the folder, synced.
        path: its name from now on, in the same parent folder.
        aside: name of what was there from now on; must not exist.

    Raises:
        OSError: if a folder cannot be renamed.
    """
    if not path.exists():
        fresh.rename(path)
    elif exchange(fresh, path):
        fresh.rename(aside)
    else:
        path.rename(aside)
        fresh.rename(path)
    sync_folder(path.parent)


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or folders in one step.

    Args:
        first: existing.
        second: existing, on the same file system.

    Returns:
        whether it was done; False where the system or the file system cannot.

    Raises:
        OSError: if it failed for another reason.
    """
    rename = _renameat2()
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """Linux's system call; None elsewhere."""
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function


def write_digests(folder: Path) -> None:
    """Write the size in bytes and the SHA-256 of every file below a folder to ``manifest.json``; sync all of them.

    Raises:
        OSError: if a file cannot be read, written or synced.
    """
    files = [path for path in _files_below(folder) if path != folder / DIGESTS]
    entries = {path.relative_to(folder).as_posix(): _size_and_digest(path) for path in files}
    sync_tree(folder)
    write_text(folder / DIGESTS, json.dumps(entries, indent=1))


def find_damage(folder: Path, *, below: Sequence[str] = ("",)) -> str | None:
    """Compare the files of a folder with its ``manifest.json``.

    Args:
        folder: one without that file counts as sound, as early versions wrote none.
        below: beginnings of the names of the files that are compared, such as ``unet/``; all by default.

    Returns:
        description of the first difference, such as ``unet.safetensors is missing``; None if there is none.
    """
    manifest = folder / DIGESTS
    if not manifest.is_file():
        return None
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        for name, (size, digest) in entries.items():
            path = folder / name
            if not name.startswith(tuple(below)):
                continue
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, {size} were written"
            if _size_and_digest(path)[1] != digest:
                return f"{name} is not what was written"
    except (OSError, ValueError, AttributeError) as error:
        return f"it cannot be read ({error})"
    return None


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _size_and_digest(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest


def stamp(path: Path) -> str:
    """Size in bytes and SHA-256 of a file, as a record keeps them."""
    size, digest = _size_and_digest(path)
    return f"{size} {digest}"


def make_folder(path: Path) -> None:
    """Make a folder with its missing parents, such that the disk keeps their names.

    Args:
        path: may exist.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_files(files: Iterable[Path], root: Path) -> None:
    """Have the disk keep files, then the names of files and folders.

    Args:
        files: below ``root``.
        root: topmost folder whose entries are synced.
    """
    folders: set[Path] = set()
    for path in files:
        _sync_file(path)
        folders |= {path.parent, *(parent for parent in path.parent.parents if parent.is_relative_to(root))}
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        sync_folder(folder)


def sync_tree(folder: Path) -> None:
    """Have the disk keep all files below a folder, then their names."""
    for path in _files_below(folder):
        _sync_file(path)
    for path in (*(entry for entry in folder.rglob("*") if entry.is_dir()), folder):
        sync_folder(path)


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:  # Windows syncs only files that are open for writing
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Sync the directory entries of a folder; not needed on Windows, which cannot open a folder."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
