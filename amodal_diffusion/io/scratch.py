"""Local copies of inputs that lie in a storage service, below a size limit and removed after use."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.manifest import InputRecord
from amodal_diffusion.io.transfers import StoredFile, download, fingerprint, list_files
from amodal_diffusion.io.urls import Location, UrlPolicy, file_name, is_url, local_path, public_name

LIMIT = 20 * 10**9
"""Bytes that the copies of one process may take by default."""
_PREFIX = "amodal-diffusion-"
_LOCK = ".lock"


@dataclass
class Copies:
    """Local copies of the inputs of one clip; a context manager that removes them.

    Attributes:
        paths: local path by location; local inputs are where they are.
        records: what identifies the inputs that were copied, by location.
    """

    paths: dict[Location, Path] = field(repr=False)
    records: dict[Location, InputRecord] = field(repr=False)
    _scratch: Scratch
    _folder: Path | None = None
    _reserved: int = 0
    _released: bool = False

    def release(self) -> None:
        """Remove the copies; their room is free for others."""
        if self._released:
            return
        self._released = True
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._scratch.give_back(self._reserved)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Scratch:
    """A folder of one process for copies of inputs. Threads may share it."""

    def __init__(self, folder: Path | None = None, *, limit: int = LIMIT, policy: UrlPolicy | None = None) -> None:
        """Nothing is created yet.

        Args:
            folder: where the copies go; the system's folder for temporary files by default.
            limit: bytes that the copies may take together; a clip that needs more fails.
            policy: hosts that https may ask, redirects included; that of each URL by default.
        """
        self._parent = folder or Path(tempfile.gettempdir())
        self._limit = limit
        self._policy = policy
        self._own: Path | None = None
        self._lock: FileLock | None = None
        self._used = 0
        self._room = threading.Condition()
        self._closed = False

    @property
    def folder(self) -> Path:
        """The folder of this process.

        Raises:
            InputError: if it cannot be made.
        """
        try:
            return self._opened()
        except OSError as error:
            raise self._refused(error) from error

    def copy(self, locations: Iterable[Location], on_progress: Callable[[], None] | None = None) -> Copies:
        """Copy the inputs of a clip; waits until copies of others have made room.

        Args:
            locations: paths, which are not copied, and URLs of files and of folders of pictures.
            on_progress: called when a part has arrived.

        Raises:
            InputError: if an input is missing, forbidden, or larger than the limit together with the others.
        """
        wanted = list(dict.fromkeys(locations))
        paths = {location: path for location in wanted if (path := local_path(location)) is not None}
        listed = {location: list_files(location, self._policy) for location in wanted if is_url(location)}
        records = {location: record_of(location, files) for location, files in listed.items()}
        if not listed:
            return Copies(paths, records, self)
        size = self._size(listed)
        self._wait_for(size)
        try:
            folder = Path(tempfile.mkdtemp(dir=self._opened()))
            try:
                for number, (location, files) in enumerate(listed.items()):
                    target = folder / f"{number}" / file_name(location)
                    target.parent.mkdir()
                    download(location, files, target, limit=size, policy=self._policy, on_progress=on_progress)
                    paths[location] = target
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        except BaseException as error:
            self.give_back(size)
            if isinstance(error, OSError):
                raise self._refused(error) from error
            raise
        return Copies(paths, records, self, folder, size)

    def give_back(self, size: int) -> None:
        """Count bytes as free again."""
        with self._room:
            self._used -= size
            self._room.notify_all()

    def close(self) -> None:
        """Remove the folder with all copies; threads that wait for room get an error."""
        with self._room:
            self._closed = True
            self._room.notify_all()
        if self._lock is not None and self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            self._lock.release()

    def record(self, url: Location) -> InputRecord:
        """What identifies an input, without copying it.

        Args:
            url: of a file or a folder of pictures.

        Raises:
            InputError: if it is missing or forbidden.
        """
        return record_of(url, list_files(url, self._policy))

    def _refused(self, error: OSError) -> InputError:
        return InputError(f"--scratch: {self._parent}: cannot be written ({error.strerror or type(error).__name__})")

    def _size(self, listed: Mapping[Location, list[StoredFile]]) -> int:
        """Bytes that the copies of a clip take; all that there may be if a server does not tell."""
        sizes = [file.size for files in listed.values() for file in files]
        known = sum(size for size in sizes if size is not None)
        if known > self._limit:
            names = ", ".join(public_name(location) for location in listed)
            raise InputError(
                f"{names}: {known} bytes, more than --scratch-limit {self._limit} allows; give a higher limit"
            )
        return self._limit if None in sizes else known

    def _wait_for(self, size: int) -> None:
        with self._room:
            self._room.wait_for(lambda: self._closed or self._used + size <= self._limit)
            if self._closed:
                raise InputError(f"--scratch: {self._parent}: closed")
            self._used += size

    def _opened(self) -> Path:
        """The folder of this process, made now; those of processes that were killed are removed."""
        with self._room:
            if self._own is None:
                self._parent.mkdir(parents=True, exist_ok=True)
                for folder in self._parent.glob(f"{_PREFIX}*"):
                    _remove_abandoned(folder)
                self._own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
                self._lock = FileLock(self._own / _LOCK, thread_local=False)
                self._lock.acquire()
            return self._own


def _remove_abandoned(folder: Path) -> None:
    """Remove a folder of copies whose process no longer holds its lock."""
    if not (folder / _LOCK).is_file():  # just made, or not ours
        return
    try:
        with FileLock(folder / _LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except (Timeout, OSError):
        return


def record_of(location: Location, files: list[StoredFile]) -> InputRecord:
    """What identifies an input in a storage service: names, sizes and versions of its objects.

    Args:
        location: a URL.
        files: what is there.
    """
    return InputRecord(public_name(location), len(files), sum(file.size or 0 for file in files), fingerprint(files))
