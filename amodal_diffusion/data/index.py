"""Annotation files of any size, one track in memory at a time: streamed once into an index, then read from that.

The index is an SQLite file with each track's JSON under its number. A process that reads from it holds one track and
SQLite's two megabytes of pages, however long the file is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import ijson
from filelock import FileLock

from amodal_diffusion.data.records import TrackRecord, parse_record
from amodal_diffusion.io.atomic import destination_of, replacing_file
from amodal_diffusion.types import InputError

SUFFIX = ".index"
_FORMAT = "1"
_PAGE_BYTES = 32_768  # a track of 25 frames at 800 x 1280 has about 50 kB

logger = logging.getLogger(__name__)


def stream_entries(path: Path, key: str = "") -> Iterator[Any]:
    """Parse the entries of a list in a JSON file one by one, whatever the size of the file.

    Args:
        path: the file.
        key: of the list in the object that the file holds; without it the file is the list.

    Raises:
        InputError: if the file cannot be read or is no such JSON; entries before the damage come first.
    """
    with _open_json(path, "{" if key else "[") as file:
        yield from parse_entries(file, path, f"{key}.item" if key else "item")


class EntryIndex:
    """The entries of a JSON list by number, from an index that is made once, and again when the file changes.

    Processes that need an index at the same time wait for the one that makes it. For a file of another layout a class
    of its own says what its entries are.

    Args:
        annotations: the file.
        folder: of the index; that of the annotation file by default.

    Attributes:
        annotations: as given.
        path: the index.
        fingerprint: SHA-256 of the annotation file.

    Raises:
        InputError: if the file cannot be read, is not of the layout or empty, or if the index cannot be written.
    """

    start = "["
    layout = ""
    """What an index says of its entries; nothing for a list's."""

    def __init__(self, annotations: Path, *, folder: Path | None = None) -> None:
        self.annotations = annotations
        self.path = _index_path(annotations, folder)
        identity = _identity(annotations, self.layout)
        meta = _read_meta(self.path, identity) or self._make(identity)
        self.fingerprint = meta["sha256"]
        self._length = int(meta["tracks"])
        self._connection: tuple[int, sqlite3.Connection] | None = None
        if self._length == 0:
            raise InputError(f"{annotations}: expected at least one track, got an empty list")

    def __len__(self) -> int:
        """Number of tracks."""
        return self._length

    def __getstate__(self) -> dict[str, Any]:
        """A copy for another process, which opens the index for itself."""
        return {**vars(self), "_connection": None}

    def entry(self, number: int) -> Any:  # noqa: ANN401 - what JSON has
        """Read an entry, as JSON has it.

        Args:
            number: its place in the file, from 0.

        Raises:
            IndexError: if there is no such entry.
        """
        if not 0 <= number < self._length:
            raise IndexError(f"number: expected 0 to {self._length - 1}, got {number}")
        row = self._connected().execute("SELECT entry FROM tracks WHERE number = ?", (number,)).fetchone()
        return json.loads(row[0])

    def values(self, *paths: str, limit: int | None = None) -> Iterator[tuple[Any, ...]]:
        """Read a few values of each entry in turn, much faster than whole entries.

        Args:
            paths: where the values are, as SQLite's JSON functions write it, such as ``$.image_ids[0]``.
            limit: of the first so many entries; of all by default.

        Yields:
            a value a path: text, a number or, where there is none or it is null, None.
        """
        columns = ", ".join("json_extract(entry, ?)" for _ in paths)
        count = self._length if limit is None else limit
        query = f"SELECT {columns} FROM tracks ORDER BY number LIMIT ?"
        yield from self._connected().execute(query, (*paths, count))

    def name(self, number: int) -> str:
        """What messages call an entry, without reading it."""
        return f"{self.annotations}: track {number}"

    def entries(self, file: HashedFile) -> Iterator[Any]:
        """Stream the entries to be indexed; reads the file to its end.

        Args:
            file: the annotation file, open.

        Raises:
            InputError: if it is no such JSON.
        """
        return parse_entries(file, self.annotations, "item")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None or self._connection[0] != os.getpid():  # SQLite forbids its use across a fork
            self._connection = (os.getpid(), _connect(self.path))
        return self._connection[1]

    def _make(self, identity: dict[str, str]) -> dict[str, str]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                return _read_meta(self.path, identity) or self._write(identity)
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(
                f"{self.path}: the index cannot be written ({error}); name a folder with room as data.index_folder"
            ) from error

    def _write(self, identity: dict[str, str]) -> dict[str, str]:
        """Stream the annotation file into a new index."""
        started = time.monotonic()
        logger.info("%s: making its index, once", self.annotations)
        for path in self.path.parent.iterdir():
            if destination_of(path) == self.path:  # of a killed process; the lock keeps others away
                path.unlink()
        with (
            replacing_file(self.path) as partial,
            closing(sqlite3.connect(partial)) as connection,
            _open_json(self.annotations, self.start) as file,
        ):
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("CREATE TABLE tracks (number INTEGER PRIMARY KEY, entry TEXT NOT NULL)")
            connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            entries = enumerate(self.entries(file))
            texts = ((number, json.dumps(entry, separators=(",", ":"))) for number, entry in entries)
            tracks = connection.executemany("INSERT INTO tracks VALUES (?, ?)", texts).rowcount
            meta = {**identity, "tracks": str(max(0, tracks)), "sha256": file.digest.hexdigest()}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.commit()
        logger.info("%s: %s tracks, %.0f s", self.path, meta["tracks"], time.monotonic() - started)
        return meta


class TrackIndex(EntryIndex):
    """The tracks of an annotation file in the layout of SAIL-VOS sequences by number, see `EntryIndex`."""

    def record(self, number: int) -> TrackRecord:
        """Read and check a track.

        Args:
            number: its place in the file, from 0.

        Raises:
            IndexError: if there is no such track.
            InputError: if it is not as it should be; names it.
        """
        return parse_record(self.entry(number), where=self.name(number))


def _index_path(annotations: Path, folder: Path | None) -> Path:
    if folder is None:
        return annotations.with_name(annotations.name + SUFFIX)
    place = hashlib.sha256(str(annotations.resolve()).encode()).hexdigest()[:12]
    return folder / f"{annotations.name}-{place}{SUFFIX}"  # files of one name from several folders


def _identity(annotations: Path, layout: str) -> dict[str, str]:
    """By what a file is known to be the one that an index was made of."""
    try:
        status = annotations.stat()
    except OSError as error:
        raise InputError(f"{annotations}: cannot be read ({error.strerror})") from error
    entries = {"layout": layout} if layout else {}
    return {"format": _FORMAT, "bytes": str(status.st_size), "changed": str(status.st_mtime_ns), **entries}


def _connect(path: Path) -> sqlite3.Connection:
    """Open an index to read; it never changes in place, so that nothing needs to be locked."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)


def _read_meta(path: Path, identity: dict[str, str]) -> dict[str, str] | None:
    """What an index says of itself; None where there is none of the file as it is now."""
    if not path.is_file():
        return None
    try:
        with closing(_connect(path)) as connection:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
    except sqlite3.DatabaseError:
        return None
    same = identity.items() <= meta.items() and identity.get("layout") == meta.get("layout")
    return meta if same else None


class HashedFile:
    """A file that is hashed as it is read.

    Args:
        file: open, at its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read and hash."""
        data = self.file.read(size)
        self.digest.update(data)
        return data


@contextmanager
def _open_json(path: Path, start: str) -> Iterator[HashedFile]:
    """Open a JSON file that is a list or an object, as its first character says."""
    kinds = {"[": "a list of tracks", "{": "an object"}
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        first = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1].decode("latin-1")
        file.seek(0)
        if first != start:
            raise InputError(f"{path}: expected JSON that is {kinds[start]}, got {kinds.get(first, 'something else')}")
        yield HashedFile(file)


def parse_entries(file: HashedFile, path: Path, prefix: str) -> Iterator[Any]:
    """Stream the JSON values under a prefix; reads the file to its end.

    Args:
        file: open.
        path: of the file, for messages.
        prefix: as ijson writes it, such as ``annotations.item``.

    Raises:
        InputError: if it is no JSON.
    """
    try:
        yield from ijson.items(file, prefix, use_float=True)
    except ijson.JSONError as error:
        reason = (error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)).strip()
        raise InputError(f"{path}: expected JSON in UTF-8, got something else ({reason.splitlines()[0]})") from error
