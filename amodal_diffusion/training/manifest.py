"""Whether a folder is as it was written: a list of its files with sizes and digests, written last."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """List all files of a folder and have the disk keep them, so that a failing machine cannot lose them either.

    Raises:
        OSError: if something cannot be read or written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {path.relative_to(folder).as_posix(): _entry(path) for path in files}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    for path in (*files, manifest):
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def find_damage(folder: Path) -> str | None:
    """Compare a folder with its list.

    Args:
        folder: one without a list, as earlier versions wrote it, counts as sound.

    Returns:
        None if all is as it was written, else what is not.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return None
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        for name, (size, digest) in entries.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, {size} were written"
            if _entry(path)[1] != digest:
                return f"{name} is not what was written"
    except (OSError, ValueError, AttributeError) as error:
        return f"it cannot be read ({error})"
    return None


def _entry(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest
