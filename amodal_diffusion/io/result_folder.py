"""Result folders that appear only when complete, can be resumed, and never replace a user's own files."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import (
    PARTIAL,
    REPLACED,
    make_folder,
    put_in_place,
    stamp,
    sync_files,
    sync_folder,
    write_text,
)
from amodal_diffusion.io.manifest import (
    FORMAT,
    JOURNAL,
    LOCK,
    MANIFEST,
    InputRecord,
    append_journal,
    differences,
    files_of,
    has_result,
    identity_of,
    is_written,
    locked,
    read_journal,
    read_manifest,
    refuse_foreign,
    remove_files,
    remove_listed,
    remove_temporary,
)

logger = logging.getLogger(__name__)

__all__ = ["MANIFEST", "InputRecord", "OutputFolder", "holds_results"]

# Write errors for lack of space: disk full, user quota exceeded, file too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputFolder:
    """A result folder that is written as ``DIR.partial/`` and renamed to ``DIR`` when complete.

    The work is divided into steps. The manifest lists the files of a step before the step writes them, so that every
    file of this package is known at any time. When the step ends and its files are on the disk, the manifest marks it
    as finished, with a digest of each file. A second run of the same command skips finished steps whose files are as
    they were written.
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
        self._stamps: dict[str, dict[str, str]] = {}  # of each step's files, by file; written or checked by this run
        self._earlier: dict[str, dict[str, str]] = {}  # as an earlier run noted them
        self._told: set[str] = set()  # files that notices have named
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
                make_folder(self.work)
                stack.enter_context(locked(self.work / LOCK))
                if self._must_replace_work():  # asked again, now that no other run can change the answer
                    remove_listed(self.work, keep=LOCK)
                remove_temporary(self.work)
                self._steps = read_manifest(self.work)["steps"] if (self.work / MANIFEST).is_file() else {}
                self._earlier = read_journal(self.work)
                self._earlier |= {name: step["digests"] for name, step in self._steps.items() if "digests" in step}
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
        """Whether an earlier run wrote all files of a step, and all are as they were written; see :meth:`check`."""
        entry = self._steps.get(step)
        if not entry or not entry["finished"]:
            return False
        dropped = set(entry.get("dropped", ()))
        return self.check(step, [file for file in entry["files"] if file not in dropped])

    def check(self, step: str, files: Iterable[str]) -> bool:
        """Whether files of an earlier run are as they were written; a notice names the first that is not.

        Args:
            step: that the files belong to.
            files: relative to the folder. A file without a digest, as early versions wrote it, need only be there.
        """
        noted = self._earlier.get(step, {}) | self._stamps.get(step, {})
        found: dict[str, str] = {}
        for file in files:
            path = self.work / file
            there = is_written(path)
            if there and file in noted:
                found[file] = noted[file] if file in self._stamps.get(step, {}) else stamp(path)
            if not there or (file in noted and found[file] != noted[file]):
                if file not in self._told:
                    self._told.add(file)
                    what = "not as it was written" if there else "missing"
                    logger.warning("out: %s: %s is %s and is made again", self.work, file, what)
                return False
        self._stamps.setdefault(step, {}).update(found)
        return True

    def record(self, step: str, files: Iterable[str]) -> None:
        """Note that files of an unfinished step are whole; on return they and the note are on the disk.

        Args:
            step: one that has begun.
            files: relative to the folder.
        """
        written = list(files)
        sync_files([self.work / file for file in written], self.work)
        self.note(step, {file: stamp(self.work / file) for file in written})

    def note(self, step: str, stamps: Mapping[str, str]) -> None:
        """Note the sizes and digests of files of an unfinished step that are on the disk; :meth:`check` reads the note.

        Args:
            step: one that has begun.
            stamps: :func:`~amodal_diffusion.io.atomic.stamp` of each file.
        """
        self._stamps.setdefault(step, {}).update(stamps)
        append_journal(self.work, step, stamps)

    def noted(self, step: str, file: str) -> str | None:
        """What was noted of a file of an unfinished step, by this run or an earlier one; None for nothing."""
        return self._stamps.get(step, {}).get(file) or self._earlier.get(step, {}).get(file)

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
        self._finish(name, files)

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
        if "digests" in entry:
            entry["digests"] = {file: text for file, text in entry["digests"].items() if file not in dropped}
        self._save()

    def commit(self, *, discarding: str | None = None) -> None:
        """Rename ``DIR.partial`` to ``DIR``, then remove the results that it replaces.

        The two folders are exchanged in one step where the system can, so that ``DIR`` is there at any moment.

        Args:
            discarding: a step whose files are removed after the renaming.

        Raises:
            InputError: if a file that may not be replaced has appeared; the complete results stay in ``DIR.partial``.
        """
        try:
            self._check_results()
        except InputError as error:
            raise InputError(f"{error}; the complete results are in {self.work}") from error
        if self.path.is_dir() and self._old.is_dir():  # from a run that was stopped right here, when all was in place
            remove_listed(self._old)
        (self.work / JOURNAL).unlink(missing_ok=True)
        sync_folder(self.work)
        put_in_place(self.work, self.path, aside=self._old)
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
        self._earlier[name] = self._earlier.get(name, {}) | self._stamps.pop(name, {})
        return self.work

    def _finish(self, name: str, files: Sequence[str]) -> None:
        """Note a step as finished, once its files and folders are on the disk."""
        stamps = self._stamps.setdefault(name, {})
        fresh = [file for file in files if file not in stamps and (self.work / file).is_file()]
        sync_files([self.work / file for file in fresh], self.work)
        stamps |= {file: stamp(self.work / file) for file in fresh}
        listed = set(files)
        digests = {file: text for file, text in stamps.items() if file in listed}
        self._steps[name] = {"files": list(files), "finished": True, "digests": digests}
        self._save()

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
