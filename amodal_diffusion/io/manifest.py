"""The manifest of a result folder: which command it is of, and which files its steps write."""

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

from amodal_diffusion.types import InputError

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class InputRecord:
    """A file or folder that results depend on, recognised again by names, sizes and times of change.

    Attributes:
        path: absolute.
        files: how many.
        bytes: together.
        fingerprint: SHA-256 over relative name, size and time of change of each file.
    """

    path: str
    files: int
    bytes: int
    fingerprint: str

    @classmethod
    def of(cls, path: str | Path) -> Self:
        """Look at a file, or at all files below a folder.

        Args:
            path: must exist.
        """
        root = Path(path).resolve()
        files = sorted(entry for entry in root.rglob("*") if entry.is_file()) if root.is_dir() else [root]
        digest, total = hashlib.sha256(), 0
        for file in files:
            status = file.stat()
            total += status.st_size
            digest.update(f"{file.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return cls(str(root), len(files), total, digest.hexdigest())


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a kill leaves the old one, none, or the new one, never a part.

    Args:
        path: the file; beside it lies ``NAME.new`` for a moment.
        text: its content.
    """
    temporary = unfinished(path)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def identity_of(inputs: Mapping[str, InputRecord], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one command's results from another's, as the manifest gives it back.

    Args:
        inputs: by argument, what the results depend on.
        settings: JSON values that the results depend on.
    """
    records = {name: asdict(record) for name, record in inputs.items()}
    identity: dict[str, Any] = json.loads(json.dumps({"inputs": records, "settings": dict(settings)}))
    return identity


def differences(manifest: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """Names of the inputs and settings that are not the same.

    Args:
        manifest: as it was read.
        identity: from :func:`identity_of`.
    """
    names = []
    for group in ("inputs", "settings"):
        old, new = manifest.get(group, {}), identity[group]
        names += [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return names


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that has one.

    Raises:
        InputError: if it cannot be read, or is not of this version.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"out: {path}: cannot be read ({error}); move the folder away") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or "steps" not in manifest:
        raise InputError(f"out: {path}: not a manifest of this version; move the folder away")
    return manifest


def files_of(folder: Path, step: Mapping[str, Any]) -> list[Path]:
    """Paths that a step may have written.

    Args:
        folder: of the results.
        step: its entry in the manifest.
    """
    paths = [folder / file for file in step["files"]]
    if "progress" in step:
        return [*paths, unfinished(folder / step["progress"])]
    return [*paths, *map(unfinished, paths)] if step.get("pieces") else paths


def has_result(folder: Path, step: Mapping[str, Any]) -> bool:
    """Whether there is anything of a step that a later run goes on from; arguments as for :func:`files_of`."""
    pieces = [step["progress"]] if "progress" in step else step["files"] if step.get("pieces") else []
    return step["finished"] or any(is_written(folder / file) for file in pieces)


def is_written(path: Path) -> bool:
    """Whether a file is there and not empty."""
    return path.is_file() and path.stat().st_size > 0


def unfinished(path: Path) -> Path:
    """Where :func:`write_whole` writes a file before it is whole."""
    return path.with_name(f"{path.name}.new")


if sys.platform != "win32":
    import fcntl

LOCK = ".lock"


def listed_files(folder: Path) -> set[Path]:
    """All files that are ours in a folder, existing or not: those that its manifest lists, and its own.

    Raises:
        InputError: if the manifest cannot be read, or lists a file elsewhere.
    """
    own = {folder / MANIFEST, unfinished(folder / MANIFEST), folder / LOCK}
    if not (folder / MANIFEST).is_file():
        return own
    listed = {path for step in read_manifest(folder)["steps"].values() for path in files_of(folder, step)}
    for path in listed:  # a manifest that was tampered with, or a link in place of a folder of ours
        if not path.parent.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"out: {folder / MANIFEST}: lists {path}, which is elsewhere; move the folder away")
    return own | listed


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files that are not ours.

    Raises:
        InputError: names the first of them.
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
    """Remove our files, the manifest last, then the folders that are empty.

    Args:
        folder: of the results.
        keep: name of a file that stays.
    """
    for path in sorted(listed_files(folder), key=lambda path: path.name == MANIFEST):
        if path.name != keep:
            path.unlink(missing_ok=True)
    folders = sorted((path for path in folder.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for path in (*folders, folder):
        if not any(path.iterdir()):
            path.rmdir()


def remove_files(files: Sequence[Path], root: Path) -> None:
    """Remove files below a folder, and the folders in it that are empty without them.

    Args:
        files: which need not be there.
        root: the folder, which stays.
    """
    for path in files:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in files} - {root}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends; where there is none (Windows), go without.

    Args:
        path: file of the lock, in the folder that it is of.

    Raises:
        InputError: if another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"out: {path.parent}: another run is at work in it; wait for it to end") from error
        yield
