"""The manifest of a result folder: which command it is of, and which files its steps write."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
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
