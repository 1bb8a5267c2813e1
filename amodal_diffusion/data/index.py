"""Random access to annotation files of any size through an index on disk.

The annotation file is streamed once into an SQLite file that has the JSON of each track under its number. A process
that reads the index holds one track and SQLite's 2 MB page cache in memory, whatever the size of the file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import ijson
from filelock import FileLock

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.records import TrackRecord, parse_record
from amodal_diffusion.io.atomic import destination_of, replacing_file
from amodal_diffusion.io.coco import SLIVERS, count_slivers
from amodal_diffusion.io.json_files import first_character
from amodal_diffusion.io.json_stream import JsonStream

_MASK_KEYS = ("segmentation", "segmentations", "visible_mask", "visible_masks", "i_segm", "a_segm", "inmodal_seg")
SUFFIX = ".index"
_FORMAT = "1"
_PAGE_BYTES = 32_768  # a track of 25 frames at 800 x 1280 has about 50 kB

logger = logging.getLogger(__name__)


def stream_entries(path: Path, key: str = "") -> Iterator[Any]:
    """Parse the entries of a list in a JSON file one by one, without loading the file.

    Args:
        path: JSON file.
        key: key of the list in the file's top-level object; empty if the file itself is the list.

    Raises:
        InputError: if the file cannot be read or is not such JSON; entries before an error are yielded first.
    """
    with _open_json(path, "{" if key else "[") as file:
        yield from parse_entries(file, path, f"{key}.item" if key else "item")


class EntryIndex:
    """Random access to the entries of a JSON list, through an index that is rebuilt when the file changes.

    If several processes need a missing index, one builds it and the others wait. Subclasses override :meth:`entries`
    for files of another layout.

    Args:
        annotations: annotation file.
        folder: folder of the index; that of the annotation file by default.

    Attributes:
        annotations: as given.
        path: the index.
        fingerprint: SHA-256 of the annotation file.

    Raises:
        InputError: if the file cannot be read, has another layout or is empty, or if the index cannot be written.
    """

    start = "["
    layout = ""
    """Layout that the index records; empty for a plain list."""

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
        """Number of entries."""
        return self._length

    def __getstate__(self) -> dict[str, Any]:
        """State for another process, which opens its own connection."""
        return {**vars(self), "_connection": None}

    def entry(self, number: int) -> Any:  # noqa: ANN401 - any JSON value
        """Read an entry as parsed JSON.

        Args:
            number: index in the file, from 0.

        Raises:
            IndexError: if there is no such entry.
        """
        if not 0 <= number < self._length:
            raise IndexError(f"number: expected 0 to {self._length - 1}, got {number}")
        row = self._connected().execute("SELECT entry FROM tracks WHERE number = ?", (number,)).fetchone()
        return json.loads(row[0])

    def values(self, *paths: str, limit: int | None = None) -> Iterator[tuple[Any, ...]]:
        """Read some values of each entry in turn, which is much faster than reading whole entries.

        Args:
            paths: SQLite JSON paths of the values, such as ``$.image_ids[0]``.
            limit: number of entries to read; all by default.

        Yields:
            one value per path: text, a number, or None if the value is missing or null.
        """
        columns = ", ".join("json_extract(entry, ?)" for _ in paths)
        count = self._length if limit is None else limit
        query = f"SELECT {columns} FROM tracks ORDER BY number LIMIT ?"
        yield from self._connected().execute(query, (*paths, count))

    def name(self, number: int) -> str:
        """Name of an entry in messages, without reading it."""
        return f"{self.annotations}: track {number}"

    def entries(self, file: JsonStream) -> Iterator[Any]:
        """Stream the entries to index; reads the file to its end.

        Args:
            file: the annotation file, open.

        Raises:
            InputError: if the file is not valid JSON of the layout.
        """
        return parse_entries(file, self.annotations, "item")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None or self._connection[0] != os.getpid():  # SQLite connections must not cross a fork
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
            if destination_of(path) == self.path:  # left by a killed process; the lock excludes live ones
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
    """Random access to the tracks of an annotation file in the SAIL-VOS sequence layout, see `EntryIndex`."""

    def record(self, number: int) -> TrackRecord:
        """Read and check a track.

        Args:
            number: index in the file, from 0.

        Raises:
            IndexError: if there is no such track.
            InputError: if the track is invalid; the message names it.
        """
        return parse_record(self.entry(number), where=self.name(number))


def _index_path(annotations: Path, folder: Path | None) -> Path:
    if folder is None:
        return annotations.with_name(annotations.name + SUFFIX)
    place = hashlib.sha256(str(annotations.resolve()).encode()).hexdigest()[:12]
    return folder / f"{annotations.name}-{place}{SUFFIX}"  # the hash separates files of the same name


def _identity(annotations: Path, layout: str) -> dict[str, str]:
    """Properties by which an index recognizes the annotation file that it was built from."""
    try:
        status = annotations.stat()
    except OSError as error:
        raise InputError(f"{annotations}: cannot be read ({error.strerror})") from error
    entries = {"layout": layout} if layout else {}
    return {"format": _FORMAT, "bytes": str(status.st_size), "changed": str(status.st_mtime_ns), **entries}


def _connect(path: Path) -> sqlite3.Connection:
    """Open an index read-only and without locks, because it never changes in place."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)


def _read_meta(path: Path, identity: dict[str, str]) -> dict[str, str] | None:
    """Metadata of an index; None if there is no index of the current file."""
    if not path.is_file():
        return None
    try:
        with closing(_connect(path)) as connection:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
    except sqlite3.DatabaseError:
        return None
    same = identity.items() <= meta.items() and identity.get("layout") == meta.get("layout")
    return meta if same else None


@contextmanager
def _open_json(path: Path, start: str) -> Iterator[JsonStream]:
    """Open a JSON file whose first character must be ``start``: ``[`` for a list, ``{`` for an object."""
    kinds = {"[": "a list of tracks", "{": "an object"}
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        first = first_character(file.read(4096))
        file.seek(0)
        if first != start:
            raise InputError(f"{path}: expected JSON that is {kinds[start]}, got {kinds.get(first, 'something else')}")
        yield JsonStream(file)


def parse_entries(file: JsonStream, path: Path, prefix: str) -> Iterator[Any]:
    """Stream the JSON values under a prefix; reads the file to its end.

    Args:
        file: open file.
        path: path of the file, for messages.
        prefix: ijson prefix, such as ``annotations.item``.

    Raises:
        InputError: if the file is not valid JSON.
    """
    slivers = 0
    try:
        for entry in ijson.items(file, prefix, use_float=True):
            slivers += _count_slivers(entry)
            yield entry
    except (ijson.JSONError, ValueError) as error:
        reason = (error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)).strip()
        raise InputError(f"{path}: expected JSON in UTF-8, got something else ({reason.split(chr(10))[0]})") from error
    if slivers:
        logger.warning(SLIVERS, path, slivers)


def is_known(value: object, among: Container[object]) -> bool:
    """Whether a JSON value is one of those; a list, as damaged files have it in place of a number, is none."""
    return isinstance(value, int | str) and value in among


def _count_slivers(entry: object) -> int:
    """How many polygons without area the masks of an entry have."""
    if not isinstance(entry, Mapping):
        return 0
    regions = entry.get("regions")
    inner = sum(map(_count_slivers, regions)) if isinstance(regions, list) else 0
    return inner + sum(count_slivers(entry.get(key)) for key in _MASK_KEYS)
