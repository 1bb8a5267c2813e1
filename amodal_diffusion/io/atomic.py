"""Files and folders that are whole or absent after a kill or a power cut, and digests that reveal later damage."""

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
"""What is added to the name of unfinished work, and of a folder that is being replaced."""

_TEMPORARY = re.compile(rf"(?P<destination>.+)\.[0-9a-f]{{32}}{re.escape(PARTIAL)}", re.DOTALL)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file; a kill leaves the old file, none, or the new one, never a part.

    Args:
        path: destination; its folder must exist.
        text: the whole content.

    Raises:
        OSError: if the file cannot be written; the old one is still there.
    """
    with replacing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name and rename it when it is complete and on the disk.

    Every call has a name of its own, so several processes may write the same file; the last one to finish wins.

    Args:
        path: destination; its folder must exist.

    Yields:
        path of the temporary file ``NAME.<random>.partial`` beside the destination, which the caller must create. It
        is removed if the block raises.

    Raises:
        OSError: if the file cannot be synced or renamed; the old one is still there.
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
    """Which file a temporary file of :func:`replacing_file` was meant to become; None for other files."""
    name = _TEMPORARY.fullmatch(path.name)
    return path.with_name(name["destination"]) if name else None


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder and put it in place of the old one when it is complete and on the disk.

    A folder cannot be renamed over another, so a kill between two renames leaves the old one as ``NAME.replaced``; the
    next call puts it back. One process at a time may replace a folder.

    Args:
        path: destination; missing parents are made.

    Yields:
        ``NAME.partial`` beside the destination, new and empty. It is removed if the block raises.

    Raises:
        OSError: if the folder cannot be written; the old one is still there.
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
    """Write ``manifest.json``: size in bytes and SHA-256 of every file below a folder; sync all of them.

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
        the first difference in words, such as ``unet.safetensors is missing``; None if there is none.
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
    with path.open("r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Have the disk keep the names in a folder; Windows cannot open one, and keeps them by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
