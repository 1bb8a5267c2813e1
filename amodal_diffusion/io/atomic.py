"""Atomic writes of files and folders, and SHA-256 manifests that detect later damage."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

DIGESTS = "manifest.json"
"""Name of the file that :func:`write_digests` writes."""

PARTIAL, REPLACED = ".partial", ".replaced"
"""Suffixes of unfinished files and folders, and of a folder that is being replaced."""

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
    _sync_folder(path.parent)


def destination_of(path: Path) -> Path | None:
    """Destination of a temporary file of :func:`replacing_file`; None for any other file."""
    name = _TEMPORARY.fullmatch(path.name)
    return path.with_name(name["destination"]) if name else None


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder, sync it to disk, then let it replace the old folder.

    A folder cannot be renamed over another one. If the process is killed between the two renames, the old folder is
    left as ``NAME.replaced``, and the next call restores it. Only one process at a time may replace a folder.

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
    partial.mkdir(parents=True)
    try:
        yield partial
        _sync_tree(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if path.exists():
        path.rename(replaced)
    partial.rename(path)
    _sync_folder(path.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def write_digests(folder: Path) -> None:
    """Sync every file below a folder and write its size in bytes and SHA-256 to ``manifest.json``.

    Raises:
        OSError: if a file cannot be read, written or synced.
    """
    files = [path for path in _files_below(folder) if path != folder / DIGESTS]
    entries = {path.relative_to(folder).as_posix(): _size_and_digest(path) for path in files}
    for path in files:
        _sync_file(path)
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


def _sync_tree(folder: Path) -> None:
    for path in _files_below(folder):
        _sync_file(path)
    for path in (*(entry for entry in folder.rglob("*") if entry.is_dir()), folder):
        _sync_folder(path)


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:  # Windows syncs only files that are open for writing
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Sync the directory entries of a folder; not needed on Windows, which cannot open a folder."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
