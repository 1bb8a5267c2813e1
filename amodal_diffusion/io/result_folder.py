"""Result folders that appear only when complete, can be resumed, and never replace a user's own files."""

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

# Write errors for lack of space: disk full, user quota exceeded, file too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputFolder:
    """A result folder that is written as ``DIR.partial/`` and renamed to ``DIR`` when complete.

    The work is divided into steps. The manifest lists the files of a step before the step writes them, so that every
    file of this package is known at any time. When the step ends, the manifest marks it as finished. A second run of
    the same command skips finished steps.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        inputs: Mapping[str, InputRecord],
        settings: Mapping[str, Any],
        overwrite: bool = False,
    ) -> None:
        """Check that the folder may be written; nothing is created or removed yet.

        Args:
            path: ``DIR``, the result folder.
            inputs: maps each argument to the input files that the results depend on.
            settings: maps each option that the results depend on to its JSON value.
            overwrite: replace earlier results of this package in ``DIR``, and unfinished work of another command in
                ``DIR.partial``. Only files that a manifest lists are removed.

        Raises:
            InputError: if an existing file or folder may not be replaced; the message names it.
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
        """Create or resume ``DIR.partial`` and lock it against other processes; an error keeps finished steps.

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
                        "same command resumes with the unfinished steps"
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
        """Run a step; files that an interrupted run left are written again.

        Args:
            name: unique within the folder.
            files: all files that the step writes, relative to the folder, separated with ``/``.
            progress: the one of these files that records the progress of the unfinished step. If it exists after an
                error, all files of the step are kept, and the caller resumes from it. Write it with `write_text`.

        Yields:
            the folder to write into, with the parent folders of all files.
        """
        yield self._begin(name, files, {"progress": progress} if progress else {})
        self._steps[name] = {"files": list(files), "finished": True}
        self._save()

    def pieces(self, name: str, files: Sequence[str]) -> Path:
        """Begin a step of independent files; files that exist are kept after an error.

        Args:
            name: unique within the folder.
            files: all files that may be written, as for `step`; each must be written with `write_text`.

        Returns:
            the folder to write into, with the parent folders of all files.
        """
        return self._begin(name, files, {"pieces": True})

    def discard(self, name: str) -> None:
        """Remove the intermediate files of a step, and the folders that become empty.

        Args:
            name: name of the step; nothing happens if it never began.
        """
        self._discard(name, self.work)

    def drop(self, name: str, files: Sequence[str]) -> None:
        """Remove some intermediate files of a finished step.

        The step stays finished, even if the removal is interrupted.

        Args:
            name: name of the step.
            files: files of the step to remove.
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
            discarding: a step whose files are removed after the renaming.

        Raises:
            InputError: if a file that may not be replaced has appeared; the complete results stay in ``DIR.partial``.
        """
        try:
            self._check_results()
        except InputError as error:
            raise InputError(f"{error}; the complete results are in {self.work}") from error
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
        """Remove the files of a step below ``root``: ``DIR.partial`` before the renaming, ``DIR`` after it."""
        remove_files(files_of(root, self._steps.pop(name, {"files": []})), root)
        self._save(root)

    def _check_results(self) -> None:
        """Raise an InputError if ``DIR`` contains a file that may not be replaced."""
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
        """Whether another command wrote ``DIR.partial``; raise an InputError if it may not be replaced."""
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
    """Whether a folder contains the complete results of a command.

    Args:
        path: result folder; it need not exist.
        inputs: as for :class:`OutputFolder`.
        settings: as for :class:`OutputFolder`.

    Raises:
        InputError: if its manifest cannot be read.
    """
    folder = Path(path)
    return (folder / MANIFEST).is_file() and not differences(read_manifest(folder), identity_of(inputs, settings))
