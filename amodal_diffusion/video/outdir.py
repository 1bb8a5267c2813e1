"""A result folder that is whole or absent, goes on after an interruption, and never loses what was there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Self

from amodal_diffusion.types import InputError

if sys.platform != "win32":
    import fcntl

MANIFEST = "manifest.json"
# What a write ends with where there is no room: on the disk, for this user, or for a file of this size.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCK = ".lock"
_FORMAT = 1


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


class OutputFolder:
    """Work in ``DIR.partial/`` under a manifest, renamed to ``DIR`` at the end.

    Work is cut into steps. Before a step writes, the manifest lists the files that it is going to write, so every file
    of ours is known at any time; when it has written them, the manifest says that it is finished. A second run of the
    same command skips finished steps.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        inputs: Mapping[str, InputRecord],
        settings: Mapping[str, Any],
        overwrite: bool = False,
    ) -> None:
        """Check that the folder may be written; nothing is touched yet.

        Args:
            path: ``DIR``, the folder of the results.
            inputs: by argument, what the results depend on.
            settings: JSON values that the results depend on.
            overwrite: replace earlier results of this package in ``DIR``, and the begun work of another command in
                ``DIR.partial``; only files that a manifest lists are ever removed.

        Raises:
            InputError: if something else is in the way; says what.
        """
        self.path = Path(path).resolve()
        if not self.path.name:
            raise InputError(f"out: {self.path}: expected a folder that can be renamed into place")
        self.work = self.path.with_name(self.path.name + ".partial")
        self._old = self.path.with_name(self.path.name + ".replaced")
        self._identity = _identity(inputs, settings)
        self._steps: dict[str, dict[str, Any]] = {}
        self._changing = Lock()  # steps may be done at the same time, by threads
        self._overwrite = overwrite
        self._check_results()
        self._must_replace_work()

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Make or take up ``DIR.partial`` and hold it against other runs; finished steps outlive an error.

        Raises:
            InputError: if another run holds it, it cannot be written, or the disk is full in the middle.
        """
        with ExitStack() as stack:
            try:
                self.work.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_locked(self.work / _LOCK))
                if self._must_replace_work():  # asked again, now that no other run can change the answer
                    _remove_listed(self.work, keep=_LOCK)
                self._steps = _read_manifest(self.work)["steps"] if (self.work / MANIFEST).is_file() else {}
                self._save()
            except OSError as error:
                raise InputError(f"out: {self.work}: cannot be written ({error.strerror or error})") from error
            try:
                yield self
            except BaseException as error:
                # Nothing to go on from: leave no folder behind that refuses the corrected command.
                if self.work.is_dir() and not any(_has_result(self.work, step) for step in self._steps.values()):
                    _remove_listed(self.work)
                if isinstance(error, OSError) and error.errno in _FULL:
                    raise InputError(
                        f"out: {self.work}: no room left to write ({os.strerror(error.errno)}); make room, and the "
                        "same command goes on with what is not finished"
                    ) from error
                raise

    def is_finished(self, step: str) -> bool:
        """Whether an earlier run wrote all files of a step, and they are still there.

        Args:
            step: its name.
        """
        entry = self._steps.get(step)
        if not entry or not entry["finished"]:
            return False
        dropped = set(entry.get("dropped", ()))
        return all(file in dropped or _is_written(self.work / file) for file in entry["files"])

    @contextmanager
    def step(self, name: str, files: Sequence[str], *, progress: str | None = None) -> Iterator[Path]:
        """Do a step; what a broken-off run left of it is written again. Several may be done at once, in threads.

        Args:
            name: of the step.
            files: what it is going to write, relative to the folder, with ``/``.
            progress: the one of them that tells, while the step is not finished, what of it is; it outlives an error
                with all the others. May be written with `write_whole`. The caller reads it and goes on from there.

        Yields:
            the folder to write into, with the folders of all files made.
        """
        with self._changing:
            self._steps[name] = {
                "files": list(files), "finished": False, **({"progress": progress} if progress else {}),
            }  # fmt: skip
            self._save()
        for folder in sorted({(self.work / file).parent for file in files}):
            folder.mkdir(parents=True, exist_ok=True)
        yield self.work
        with self._changing:
            self._steps[name] = {"files": list(files), "finished": True}
            self._save()

    def pieces(self, name: str, files: Sequence[str]) -> Path:
        """Begin a step whose files are made one by one, each with `write_whole`; those that are there outlive an error.

        Args:
            name: of the step.
            files: what may be written, as for `step`.

        Returns:
            the folder to write into, with the folders of all files made.
        """
        self._steps[name] = {"files": list(files), "finished": False, "pieces": True}
        self._save()
        for folder in {(self.work / file).parent for file in files}:
            folder.mkdir(parents=True, exist_ok=True)
        return self.work

    def discard(self, name: str) -> None:
        """Remove the files of a step that only others needed, and the folders that it leaves empty.

        Args:
            name: of the step; nothing happens if it was never begun.
        """
        self._discard(name, self.work)

    def drop(self, name: str, files: Sequence[str]) -> None:
        """Remove files of a finished step that only others needed; it stays finished, also if this is interrupted.

        Args:
            name: of the step.
            files: of those that it wrote.
        """
        entry = self._steps[name]
        entry["dropped"] = list(files)
        self._save()
        _remove_files([self.work / file for file in files], self.work)
        del entry["dropped"]
        dropped = set(files)
        entry["files"] = [file for file in entry["files"] if file not in dropped]
        self._save()

    def commit(self, *, discarding: str | None = None) -> None:
        """Rename ``DIR.partial`` to ``DIR``; what it replaces goes only after that.

        Args:
            discarding: a step whose files go, too, but not before the results are in place.

        Raises:
            InputError: if something came in the way meanwhile; the results stay whole in ``DIR.partial``.
        """
        try:
            self._check_results()
        except InputError as error:
            raise InputError(f"{error}; the results are whole in {self.work}") from error
        if self.path.is_dir():
            if self._old.is_dir():  # from a run that was stopped right here, after its results were in place
                _remove_listed(self._old)
            self.path.rename(self._old)
        self.work.rename(self.path)
        (self.path / _LOCK).unlink(missing_ok=True)
        if self._old.is_dir():
            _remove_listed(self._old)
        if discarding is not None:
            self._discard(discarding, self.path)

    def _discard(self, name: str, root: Path) -> None:
        """Remove the files of a step in the folder before or after it is renamed."""
        _remove_files(_files_of(root, self._steps.pop(name, {"files": []})), root)
        self._save(root)

    def _check_results(self) -> None:
        """Refuse where ``DIR`` holds something that may not be replaced."""
        for folder in (self.path, self._old, self.work):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"out: {folder}: a file is in the way; choose another folder")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not self._overwrite:
                raise InputError(
                    f"out: {self.path}: not empty; choose another folder, or --overwrite to replace earlier results"
                )
            _refuse_foreign(self.path)
        if self._old.is_dir():
            _refuse_foreign(self._old)

    def _must_replace_work(self) -> bool:
        """Whether ``DIR.partial`` is another command's that may be replaced; refuse one that may not."""
        if not self.work.is_dir():
            return False
        if not (self.work / MANIFEST).is_file():
            _refuse_foreign(self.work)
            return False
        manifest = _read_manifest(self.work)
        different = _differences(manifest, self._identity)
        if not different:
            return False
        if not self._overwrite:
            raise InputError(
                f"out: {self.work}: begun by another command (other {', '.join(different)}); finish that one, choose "
                "another folder, or --overwrite to begin anew"
            )
        _refuse_foreign(self.work)
        return True

    def _save(self, root: Path | None = None) -> None:
        """Write the manifest in one go, so that a kill leaves the old or the new one."""
        write_whole(
            (root or self.work) / MANIFEST,
            json.dumps({"format": _FORMAT, **self._identity, "steps": self._steps}, indent=1),
        )


def holds_results(path: str | Path, *, inputs: Mapping[str, InputRecord], settings: Mapping[str, Any]) -> bool:
    """Whether a folder holds the whole results of a command.

    Args:
        path: the folder, if it is there at all.
        inputs: of the command, as for :class:`OutputFolder`.
        settings: of the command, as for :class:`OutputFolder`.

    Raises:
        InputError: if its manifest cannot be read.
    """
    folder = Path(path)
    return (folder / MANIFEST).is_file() and not _differences(_read_manifest(folder), _identity(inputs, settings))


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a kill leaves the old one, none, or the new one, never a part.

    Args:
        path: the file; beside it lies ``NAME.new`` for a moment.
        text: its content.
    """
    temporary = _unfinished(path)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _remove_files(files: Sequence[Path], root: Path) -> None:
    """Remove files below a folder, and the folders in it that are empty without them."""
    for path in files:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in files} - {root}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _files_of(folder: Path, step: Mapping[str, Any]) -> list[Path]:
    """Paths that a step may have written."""
    paths = [folder / file for file in step["files"]]
    if "progress" in step:
        return [*paths, _unfinished(folder / step["progress"])]
    return [*paths, *map(_unfinished, paths)] if step.get("pieces") else paths


def _has_result(folder: Path, step: Mapping[str, Any]) -> bool:
    """Whether there is anything of a step that a later run goes on from."""
    pieces = [step["progress"]] if "progress" in step else step["files"] if step.get("pieces") else []
    return step["finished"] or any(_is_written(folder / file) for file in pieces)


def _is_written(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"out: {path}: cannot be read ({error}); move the folder away") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT or "steps" not in manifest:
        raise InputError(f"out: {path}: not a manifest of this version; move the folder away")
    return manifest


def _listed(folder: Path) -> set[Path]:
    """All files that are ours in a folder, existing or not: those that its manifest lists, and its own."""
    own = {folder / MANIFEST, _unfinished(folder / MANIFEST), folder / _LOCK}
    if not (folder / MANIFEST).is_file():
        return own
    listed = {path for step in _read_manifest(folder)["steps"].values() for path in _files_of(folder, step)}
    for path in listed:  # a manifest that was tampered with, or a link in place of a folder of ours
        if not path.parent.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"out: {folder / MANIFEST}: lists {path}, which is elsewhere; move the folder away")
    return own | listed


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files that are not ours."""
    known = _listed(folder)
    foreign = sorted(
        path for path in folder.rglob("*") if path not in known and (path.is_symlink() or not path.is_dir())
    )
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise InputError(
            f"out: {folder}: holds {foreign[0].relative_to(folder)}{others}, which no {MANIFEST} there lists, so it is "
            "not replaced; move it away"
        )


def _remove_listed(folder: Path, *, keep: str = "") -> None:
    """Remove our files, the manifest last, then the folders that are empty."""
    for path in sorted(_listed(folder), key=lambda path: path.name == MANIFEST):
        if path.name != keep:
            path.unlink(missing_ok=True)
    folders = sorted((path for path in folder.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for path in (*folders, folder):
        if not any(path.iterdir()):
            path.rmdir()


def _identity(inputs: Mapping[str, InputRecord], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one command's results from another's, as the manifest gives it back."""
    records = {name: asdict(record) for name, record in inputs.items()}
    identity: dict[str, Any] = json.loads(json.dumps({"inputs": records, "settings": dict(settings)}))
    return identity


def _differences(manifest: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """Names of the inputs and settings that are not the same."""
    names = []
    for group in ("inputs", "settings"):
        old, new = manifest.get(group, {}), identity[group]
        names += [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return names


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends; where there is none (Windows), go without."""
    if sys.platform == "win32":
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"out: {path.parent}: another run is at work in it; wait for it to end") from error
        yield
