"""A result folder that is whole or absent, goes on after an interruption, and never loses what was there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Self

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
    write_whole,
)
from amodal_diffusion.types import InputError

__all__ = ["MANIFEST", "InputRecord", "OutputFolder", "holds_results", "write_whole"]

# What a write ends with where there is no room: on the disk, for this user, or for a file of this size.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        self._identity = identity_of(inputs, settings)
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
                stack.enter_context(locked(self.work / LOCK))
                if self._must_replace_work():  # asked again, now that no other run can change the answer
                    remove_listed(self.work, keep=LOCK)
                self._steps = read_manifest(self.work)["steps"] if (self.work / MANIFEST).is_file() else {}
                self._save()
            except OSError as error:
                raise InputError(f"out: {self.work}: cannot be written ({error.strerror or error})") from error
            try:
                yield self
            except BaseException as error:
                # Nothing to go on from: leave no folder behind that refuses the corrected command.
                if self.work.is_dir() and not any(has_result(self.work, step) for step in self._steps.values()):
                    remove_listed(self.work)
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
        return all(file in dropped or is_written(self.work / file) for file in entry["files"])

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
        remove_files([self.work / file for file in files], self.work)
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
                remove_listed(self._old)
            self.path.rename(self._old)
        self.work.rename(self.path)
        (self.path / LOCK).unlink(missing_ok=True)
        if self._old.is_dir():
            remove_listed(self._old)
        if discarding is not None:
            self._discard(discarding, self.path)

    def _discard(self, name: str, root: Path) -> None:
        """Remove the files of a step in the folder before or after it is renamed."""
        remove_files(files_of(root, self._steps.pop(name, {"files": []})), root)
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
            refuse_foreign(self.path)
        if self._old.is_dir():
            refuse_foreign(self._old)

    def _must_replace_work(self) -> bool:
        """Whether ``DIR.partial`` is another command's that may be replaced; refuse one that may not."""
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
        """Write the manifest in one go, so that a kill leaves the old or the new one; steps in order of name."""
        write_whole(
            (root or self.work) / MANIFEST,
            json.dumps({"format": FORMAT, **self._identity, "steps": dict(sorted(self._steps.items()))}, indent=1),
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
    return (folder / MANIFEST).is_file() and not differences(read_manifest(folder), identity_of(inputs, settings))
