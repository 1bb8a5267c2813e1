"""Lists of clips to complete: JSON lines, CSV or tab-separated text, one clip per line."""

from __future__ import annotations

import csv
import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amodal_diffusion.io.json_files import text_encoding
from amodal_diffusion.types import InputError

COLUMNS = ("clip", "masks", "depth", "object", "name", "frames", "objects")
_REQUIRED = ("clip", "masks")
_COUNTS = ("frames", "objects")
_NO_FILES = ("auto", "none")  # values of depth that are not paths
_TAKEN = (".partial", ".replaced", ".json")  # suffixes of unfinished result folders and of records

Row = Mapping[str, object]


@dataclass(frozen=True)
class ClipEntry:
    """One clip of a list.

    Attributes:
        name: name of its result folder, unique in the list.
        clip: a video, a folder of images, or one image.
        masks: modal (visible) masks.
        depth: ``"auto"``, ``"none"`` or a path; None if the list does not set it.
        object_name: the only object to complete; None for all.
        frames: number of frames, by which long clips are started first; None if the list does not set it.
        objects: number of objects, likewise.
    """

    name: str
    clip: Path
    masks: Path
    depth: str | None = None
    object_name: str | None = None
    frames: int | None = None
    objects: int | None = None


@dataclass(frozen=True)
class ClipList:
    """A list that was checked once; each iteration reads it anew, so that a long list is never in memory.

    Attributes:
        source: file of the list, or its rows.
        count: number of clips.
    """

    source: Path | tuple[Row, ...]
    count: int

    def __len__(self) -> int:
        """Number of clips."""
        return self.count

    def __iter__(self) -> Iterator[ClipEntry]:
        """The clips, in the order of the list.

        Raises:
            InputError: if the list can no longer be read.
        """
        for _, entry in _entries(self.source):
            yield entry


def read_clip_list(source: str | Path | tuple[Row, ...]) -> ClipList:
    """Check every line of a list; does not check whether the paths exist.

    Each line sets ``clip`` and ``masks``, and may set ``depth``, ``object``, ``name``, ``frames`` and ``objects``. A
    .jsonl line is a JSON object. A .csv file starts with a line of these names, in any order. A .txt line has
    tab-separated values in the order above; lines that start with # are comments. Empty values count as unset. Paths
    are relative to the list's folder. The default name of a result is the clip's path as written in the list, with
    ``_`` for ``/`` and without a file suffix, followed by the object.

    Args:
        source: the file, or rows with the same keys, whose paths are relative to the current folder.

    Raises:
        InputError: if the list cannot be read, is empty or has an invalid line, or if two results have the same name.
    """
    source = source if isinstance(source, tuple) else Path(source)
    hashes = array("Q", (_hash(entry.name) for _, entry in _entries(source)))
    if not hashes:
        raise InputError(f"input: {_told(source)}: lists no clip")
    ordered = np.sort(np.frombuffer(hashes, dtype=np.uint64))
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        _refuse_repeated(source, set(repeated.tolist()))
    return ClipList(source, len(hashes))


def _hash(name: str) -> int:
    """64 bits that stand for a name, as a million names would take too much memory."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _refuse_repeated(source: Path | tuple[Row, ...], hashes: set[int]) -> None:
    """Raise an InputError for the first two lines with one name; different names may share a hash."""
    lines: dict[str, int] = {}
    for line, entry in _entries(source):
        if _hash(entry.name) not in hashes:
            continue
        if entry.name in lines:
            raise InputError(
                f"input: {_told(source)}: lines {lines[entry.name]} and {line} are both named {entry.name}; give one "
                "of them another name"
            )
        lines[entry.name] = line


def _told(source: Path | tuple[Row, ...]) -> str:
    return str(source) if isinstance(source, Path) else "clips"


def _entries(source: Path | tuple[Row, ...]) -> Iterator[tuple[int, ClipEntry]]:
    """Line number and clip of each line."""
    if not isinstance(source, Path):
        for line, row in enumerate(source, start=1):
            yield line, _entry(row, Path(), f"clips: line {line}")
        return
    readers = {".jsonl": _json_lines, ".csv": _csv_rows, ".txt": _text_rows}
    if source.suffix.lower() not in readers:
        raise InputError(f"input: {source}: expected a list named .jsonl, .csv or .txt")
    try:
        for line, row in readers[source.suffix.lower()](source):
            yield line, _entry(row, source.parent, f"input: {source}: line {line}")
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"input: {source}: cannot be read ({error})") from error


def _json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding=text_encoding(path)) as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(f"input: {path}: line {number} is not JSON ({error})") from error
            if not isinstance(row, dict):
                raise InputError(
                    f'input: {path}: line {number}: expected an object such as {{"clip": ..., "masks": ...}}'
                )
            yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding=text_encoding(path), newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            if None in row:  # DictReader's key for values without a column name
                raise InputError(f"input: {path}: line {reader.line_num} has more values than the first line has names")
            yield reader.line_num, row


def _text_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding=text_encoding(path)) as file:
        for number, text in enumerate(file, start=1):
            if not text.strip() or text.startswith("#"):
                continue
            values = [value.strip() for value in text.rstrip("\r\n").split("\t")]
            if len(values) > len(COLUMNS):
                raise InputError(f"input: {path}: line {number}: expected at most {len(COLUMNS)} values between tabs")
            yield number, dict(zip(COLUMNS, values, strict=False))


def _entry(row: Row, folder: Path, where: str) -> ClipEntry:
    unknown = sorted(set(row) - set(COLUMNS))
    if unknown:
        raise InputError(f"{where}: {unknown[0]} is unknown; there are {', '.join(COLUMNS)}")
    given = {
        key: value if isinstance(value, str) else f"{value}" for key, value in row.items() if value not in ("", None)
    }
    missing = [key for key in _REQUIRED if key not in given]
    if missing:
        raise InputError(f"{where}: no {' and no '.join(missing)}")
    for key in _COUNTS:
        if key in given and not (given[key].isdecimal() and int(given[key])):
            raise InputError(f"{where}: {key}: expected a whole number above 0, got {given[key]}")
    depth, object_name = given.get("depth"), given.get("object")
    clip = folder / given["clip"]
    name = given.get("name") or _name(given["clip"], clip, object_name)
    if not name or {"/", "\\"} & set(name) or name.startswith(".") or name.endswith(_TAKEN):
        raise InputError(f"{where}: {name!r} is not a valid name of a result folder; choose another")
    return ClipEntry(
        name=name,
        clip=clip,
        masks=folder / given["masks"],
        depth=depth if depth is None or depth in _NO_FILES else str(folder / depth),
        object_name=object_name,
        frames=int(given["frames"]) if "frames" in given else None,
        objects=int(given["objects"]) if "objects" in given else None,
    )


def _name(text: str, clip: Path, object_name: str | None) -> str:
    written = Path(text)
    if written.suffix and not clip.is_dir():  # a folder's name may have a dot
        written = written.with_suffix("")
    parts = [part for part in written.parts if part not in (written.anchor, "..")]
    return "_".join([*parts, *([object_name] if object_name else [])])
