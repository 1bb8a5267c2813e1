"""Which files of a result folder are ours, to remove these and no others; and who is at work in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from amodal_diffusion.types import InputError
from amodal_diffusion.video.manifest import MANIFEST, files_of, read_manifest, unfinished

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
