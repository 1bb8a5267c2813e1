"""Result folders: complete or absent, resumable after an interruption, and never in place of a user's own files."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from amodal_diffusion.io.atomic import PARTIAL, REPLACED, write_text
from amodal_diffusion.io.manifest import (
    FORMAT,
    LOCK,
    MANIFEST,
    InputRecord,
    differences,
    files_of,
    has_result,
    identity_of,
    is_written,
    locked,
    read_manifest,
    refuse_foreign,
    remove_files,
    remove_listed,
    remove_temporary,
)
from amodal_diffusion.types import InputError

__all__ = ["MANIFEST", "InputRecord", "OutputFolder", "holds_results"]

# Errors of a write for lack of room: on the disk, for this user, or for a file of this size.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputFolder:
    """Work in ``DIR.partial/`` under a manifest, renamed to ``DIR`` at the end.

    Work is cut into steps. Before a step writes, the manifest lists its files, so that every file of this package is
    known at any time; after it, the manifest marks the step as finished. A second run of the same command skips
    finished steps.
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
            inputs: argument to files that the results depend on.
            settings: option to JSON value that the results depend on.
            overwrite: replace earlier results of this package in ``DIR``, and unfinished work of another command in
                ``DIR.partial``; only files that a manifest lists are ever removed.

        Raises:
            InputError: if another file or folder is in the way; names it.
        """
        self.path = Path(path).resolve()
        if not self.path.name:
            raise InputError(f"out: {self.path}: expected a folder that can be renamed into place")
        self.work = self.path.with_name(self.path.name + PARTIAL)
        self._old = self.path.with_name(self.path.name + REPLACED)
        self._identity = identity_of(inputs, settings)
        self._steps: dict[str, dict[str, Any]] = {}
        self._overwrite = overwrite
        self._check_results()
        self._must_replace_work()

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Create or resume ``DIR.partial`` and lock it against other processes; finished steps stay after an error.

        Raises:
            InputError: if another process has locked it, it cannot be written, or the disk becomes full.
        """
        with ExitStack() as stack:
            try:
                self.work.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.work / LOCK))
                if self._must_replace_work():  # asked again, now that no other run can change the answer
                    remove_listed(self.work, keep=LOCK)
                remove_temporary(self.work)
                self._steps = read_manifest(self.work)["steps"] if (self.work / MANIFEST).is_file() else {}
                self._save()
            except OSError as error:
                raise InputError(f"out: {self.work}: cannot be written ({error.strerror or error})") from error
            try:
                yield self
            except BaseException as error:
                # Nothing to resume: a folder left behind would make the corrected command fail.
                if self.work.is_dir() and not any(has_result(self.work, step) for step in self._steps.values()):
                    remove_listed(self.work)
                if isinstance(error, OSError) and error.errno in _FULL:
                    raise InputError(
                        f"out: {self.work}: no room left to write ({os.strerror(error.errno)}); make room, and the "
                        "same command goes on with what is not finished"
                    ) from error
                raise

    def is_finished(self, step: str) -> bool:
        """Whether an earlier run wrote all files of a step, and all of them still exist."""
        entry = self._steps.get(step)
        if not entry or not entry["finished"]:
            return False
        dropped = set(entry.get("dropped", ()))
        return all(file in dropped or is_written(self.work / file) for file in entry["files"])

    @contextmanager
    def step(self, name: str, files: Sequence[str], *, progress: str | None = None) -> Iterator[Path]:
        """Do a step; files that an interrupted run left of it are written again.

        Args:
            name: unique within the folder.
            files: everything that the step is going to write, relative to the folder, with ``/``.
            progress: the file among them that says how far an unfinished step has come. If it exists after an error,
                all files of the step stay, and the caller reads it and goes on from there. Write it with `write_text`.

        Yields:
            the folder to write into; the parents of all files exist.
        """
        yield self._begin(name, files, {"progress": progress} if progress else {})
        self._steps[name] = {"files": list(files), "finished": True}
        self._save()

    def pieces(self, name: str, files: Sequence[str]) -> Path:
        """Begin a step whose files are independent of each other; those that exist stay after an error.

        Args:
            name: unique within the folder.
            files: everything that may be written, as for `step`; each must be written with `write_text`.

        Returns:
            the folder to write into; the parents of all files exist.
        """
        return self._begin(name, files, {"pieces": True})

    def discard(self, name: str) -> None:
        """Remove a step's files, which only other steps needed, and the folders that become empty.

        Args:
            name: nothing happens if this step was never begun.
        """
        self._discard(name, self.work)

    def drop(self, name: str, files: Sequence[str]) -> None:
        """Remove some files of a finished step, which only other steps needed; the step stays finished.

        If this is interrupted, the step is finished all the same.

        Args:
            name: the step.
            files: those of its files to remove.
        """
        entry = self._steps[name]
        entry["dropped"] = list(files)
        self._save()
        remove_files([self.work / file for file in files], self.work)
        del entry["dropped"]
        dropped = set(files)
        entry["files"] = [file for file in entry["files"] if file not in dropped]
        self._save()

    def commit(self, *, discarding: str | None = None) -> None:
        """Rename ``DIR.partial`` to ``DIR``, then remove the results that it replaces.

        Args:
            discarding: a step whose files are removed after the results are in place.

        Raises:
            InputError: if a file has come in the way meanwhile; the results stay whole in ``DIR.partial``.
        """
        try:
            self._check_results()
        except InputError as error:
            raise InputError(f"{error}; the results are whole in {self.work}") from error
        if self.path.is_dir():
            if self._old.is_dir():  # from a run that was stopped right here, after its results were in place
                remove_listed(self._old)
            self.path.rename(self._old)
        self.work.rename(self.path)
        (self.path / LOCK).unlink(missing_ok=True)
        if self._old.is_dir():
            remove_listed(self._old)
        if discarding is not None:
            self._discard(discarding, self.path)

    def _begin(self, name: str, files: Sequence[str], kind: Mapping[str, Any]) -> Path:
        """List the files of a step before the first of them is written."""
        self._steps[name] = {"files": list(files), "finished": False, **kind}
        self._save()
        for folder in {(self.work / file).parent for file in files}:
            folder.mkdir(parents=True, exist_ok=True)
        return self.work

    def _discard(self, name: str, root: Path) -> None:
        """Remove a step's files below ``root``, which is ``DIR.partial`` before the renaming and ``DIR`` after it."""
        remove_files(files_of(root, self._steps.pop(name, {"files": []})), root)
        self._save(root)

    def _check_results(self) -> None:
        """Raise if ``DIR`` holds a file that may not be replaced."""
        for folder in (self.path, self._old, self.work):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"out: {folder}: a file is in the way; choose another folder")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not self._overwrite:
                raise InputError(
                    f"out: {self.path}: not empty; choose another folder, or --overwrite to replace earlier results"
                )
            refuse_foreign(self.path)
        if self._old.is_dir():
            refuse_foreign(self._old)

    def _must_replace_work(self) -> bool:
        """Whether ``DIR.partial`` is of another command and may be replaced; raise if it may not."""
        if not self.work.is_dir():
            return False
        if not (self.work / MANIFEST).is_file():
            refuse_foreign(self.work)
            return False
        manifest = read_manifest(self.work)
        different = differences(manifest, self._identity)
        if not different:
            return False
        if not self._overwrite:
            raise InputError(
                f"out: {self.work}: begun by another command (other {', '.join(different)}); finish that one, choose "
                "another folder, or --overwrite to begin anew"
            )
        refuse_foreign(self.work)
        return True

    def _save(self, root: Path | None = None) -> None:
        """Write the manifest, its steps sorted by name."""
        write_text(
            (root or self.work) / MANIFEST,
            json.dumps({"format": FORMAT, **self._identity, "steps": dict(sorted(self._steps.items()))}, indent=1),
        )


def holds_results(path: str | Path, *, inputs: Mapping[str, InputRecord], settings: Mapping[str, Any]) -> bool:
    """Whether a folder holds the complete results of a command.

    Args:
        path: need not exist.
        inputs: as for :class:`OutputFolder`.
        settings: as for :class:`OutputFolder`.

    Raises:
        InputError: if its manifest cannot be read.
    """
    folder = Path(path)
    return (folder / MANIFEST).is_file() and not differences(read_manifest(folder), identity_of(inputs, settings))
