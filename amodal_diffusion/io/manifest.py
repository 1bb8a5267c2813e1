"""The manifest of a result folder: the inputs and settings of the command, and the files of each step."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import PARTIAL, destination_of, sync_folder

if sys.platform != "win32":
    import fcntl

MANIFEST = "manifest.json"
LOCK = ".lock"
JOURNAL = "finished.jsonl"
"""Digests of the files that unfinished steps have written so far, a line for each record."""

FORMAT = 1


class InUseError(InputError):
    """Another process is at work in a result folder."""


@dataclass(frozen=True)
class InputRecord:
    """An input file or folder of a command, identified by the names, sizes and modification times of its files.

    Attributes:
        path: absolute path.
        files: number of files.
        bytes: total size of the files.
        fingerprint: SHA-256 of the relative name, size and modification time of each file.
    """

    path: str
    files: int
    bytes: int
    fingerprint: str

    @classmethod
    def of(cls, path: str | Path) -> Self:
        """Record an existing file, or all files below an existing folder."""
        root = Path(path).resolve()
        files = sorted(entry for entry in root.rglob("*") if entry.is_file()) if root.is_dir() else [root]
        digest, total = hashlib.sha256(), 0
        for file in files:
            status = file.stat()
            total += status.st_size
            digest.update(f"{file.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return cls(str(root), len(files), total, digest.hexdigest())


def identity_of(inputs: Mapping[str, InputRecord], settings: Mapping[str, Any]) -> dict[str, Any]:
    """JSON form of the inputs and settings that identify the results of a command.

    Args:
        inputs: maps each argument to the input files that the results depend on.
        settings: maps each option that the results depend on to its JSON value.
    """
    records = {name: asdict(record) for name, record in inputs.items()}
    identity: dict[str, Any] = json.loads(json.dumps({"inputs": records, "settings": dict(settings)}))
    return identity


def differences(manifest: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """Names of the inputs and settings in which a manifest differs from the output of :func:`identity_of`."""
    names = []
    for group in ("inputs", "settings"):
        old, new = manifest.get(group, {}), identity[group]
        names += [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return names


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a result folder.

    Raises:
        InputError: if the manifest is missing, cannot be read, or has another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"out: {path}: cannot be read ({error}); move the folder away") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or "steps" not in manifest:
        raise InputError(f"out: {path}: not a manifest of this version; move the folder away")
    steps = manifest["steps"]
    if not isinstance(steps, dict) or not all(map(_is_step, steps.values())):
        raise InputError(f"out: {path}: its list of steps is damaged; move the folder away")
    return manifest


def _is_step(entry: object) -> bool:
    """Whether an entry of the manifest has what :class:`OutputFolder` writes."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("finished"), bool)
        and isinstance(entry.get("files"), list)
        and all(isinstance(file, str) for file in (*entry["files"], *entry.get("dropped", ())))
        and isinstance(entry.get("digests", {}), dict)
    )


def append_journal(folder: Path, step: str, stamps: Mapping[str, str]) -> None:
    """Note files that an unfinished step has written; the note is on the disk on return.

    Args:
        folder: of the manifest.
        step: the step.
        stamps: size and digest by file.
    """
    path = folder / JOURNAL
    begun = path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "digests": dict(stamps)}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if not begun:
        sync_folder(folder)


def read_journal(folder: Path) -> dict[str, dict[str, str]]:
    """Read what :func:`append_journal` wrote, by step and file, and cut off a line that a kill left unfinished.

    Args:
        folder: of the manifest.
    """
    path, found = folder / JOURNAL, dict[str, dict[str, str]]()
    if not path.is_file():
        return found
    lines = path.read_bytes().splitlines(keepends=True)
    whole = 0
    for line in lines:
        try:
            entry = json.loads(line)
            found.setdefault(entry["step"], {}).update(entry["digests"])
        except (ValueError, TypeError, KeyError):
            break
        whole += len(line)
    with path.open("r+b") as file:
        file.truncate(whole)
    return found


def files_of(folder: Path, step: Mapping[str, Any]) -> list[Path]:
    """Paths of all files that a step may have written; ``step`` is its entry in the manifest of ``folder``."""
    return [folder / file for file in step["files"]]


def has_result(folder: Path, step: Mapping[str, Any]) -> bool:
    """Whether a later run can resume from the files of a step; arguments as for :func:`files_of`."""
    pieces = [step["progress"]] if "progress" in step else step["files"] if step.get("pieces") else []
    return step["finished"] or any(is_written(folder / file) for file in pieces)


def is_written(path: Path) -> bool:
    """Whether a file exists and is not empty."""
    return path.is_file() and path.stat().st_size > 0


def listed_files(folder: Path) -> set[Path]:
    """All files of this package in a folder: the manifest, the lock, and the files that the manifest lists.

    The listed files need not exist. Temporary files that a killed run left next to them are included.

    Raises:
        InputError: if the manifest cannot be read, or lists a file outside the folder.
    """
    known = {folder / MANIFEST, folder / LOCK, folder / JOURNAL}
    if (folder / MANIFEST).is_file():
        listed = {path for step in read_manifest(folder)["steps"].values() for path in files_of(folder, step)}
        for path in listed:  # a manifest that was tampered with, or a link in place of one of the folders
            if not path.parent.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"out: {folder / MANIFEST}: lists {path}, which is elsewhere; move the folder away")
        known |= listed
    return known | {path for path in _temporary_files(folder) if destination_of(path) in known}


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files that a killed run left; the caller must hold the lock of the folder.

    Raises:
        InputError: as :func:`listed_files`.
    """
    for path in _temporary_files(folder) & listed_files(folder):
        path.unlink(missing_ok=True)


def _temporary_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob(f"*{PARTIAL}") if destination_of(path) is not None}


def refuse_foreign(folder: Path) -> None:
    """Raise an error if a folder contains files that are not listed in its manifest.

    Raises:
        InputError: if there is such a file; the message names the first.
    """
    known = listed_files(folder)
    foreign = sorted(
        path for path in folder.rglob("*") if path not in known and (path.is_symlink() or not path.is_dir())
    )
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise InputError(
            f"out: {folder}: holds {foreign[0].relative_to(folder)}{others}, which no {MANIFEST} there lists, so it is "
            "not replaced; move it away"
        )


def remove_listed(folder: Path, *, keep: str = "") -> None:
    """Remove the files of this package in a folder, the manifest last, then every empty folder.

    Args:
        folder: root of the results.
        keep: name of a file that is not removed.
    """
    for path in sorted(listed_files(folder), key=lambda path: path.name == MANIFEST):
        if path.name != keep:
            path.unlink(missing_ok=True)
    folders = sorted((path for path in folder.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for path in (*folders, folder):
        if not any(path.iterdir()):
            path.rmdir()


def remove_files(files: Sequence[Path], root: Path) -> None:
    """Remove files and their temporary files, then their parent folders if these are empty.

    Args:
        files: files below ``root``; they need not exist.
        root: folder that is kept even if it is empty.
    """
    names = set(files)
    for folder in {path.parent for path in files}:
        if not folder.is_dir():
            continue
        for path in list(folder.iterdir()):
            if path in names or destination_of(path) in names:
                path.unlink()
        if folder != root and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive file lock, which the system releases when the process ends; does nothing on Windows.

    Args:
        path: the lock file, in the folder to be locked.

    Raises:
        InUseError: if another process holds the lock.
    """
    if sys.platform == "win32":
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(f"out: {path.parent}: another run is at work in it; wait for it to end") from error
        yield
