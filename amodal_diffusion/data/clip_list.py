"""Lists of clips to complete: JSON lines, CSV or tab-separated text, one clip per line."""

from __future__ import annotations

import atexit
import csv
import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.json_files import text_encoding
from amodal_diffusion.io.scratch import Scratch
from amodal_diffusion.io.transfers import stat
from amodal_diffusion.io.urls import (
    INPUT_ONLY,
    Location,
    UrlPolicy,
    host_of,
    is_url,
    local_path,
    public_name,
    scheme_of,
)

COLUMNS = ("clip", "masks", "depth", "object", "name", "frames", "objects")
_REQUIRED = ("clip", "masks")
_COUNTS = ("frames", "objects")
_FILES = ("clip", "masks", "depth")
_SEPARATORS = (",", ";", "\t")  # of a .csv file; no name of a column has one
_NO_FILES = ("auto", "none")  # values of depth that are not paths
_TAKEN = (".partial", ".replaced", ".json")  # suffixes of unfinished result folders and of records

Row = Mapping[str, object]


@dataclass(frozen=True)
class ClipEntry:
    """One clip of a list.

    Attributes:
        name: name of its result folder, unique in the list.
        clip: path or URL of a video, a folder of images, or one image.
        masks: path or URL of modal (visible) masks.
        depth: ``"auto"``, ``"none"``, a path or a URL; None if the list does not set it.
        object_name: the only object to complete; None for all.
        frames: number of frames, by which long clips are started first; None if the list does not set it.
        objects: number of objects, likewise.
        is_finished: whether its results were found in the bucket of all results.
    """

    name: str
    clip: Location
    masks: Location
    depth: str | None = None
    object_name: str | None = None
    frames: int | None = None
    objects: int | None = None
    is_finished: bool = False

    @property
    def depth_location(self) -> Location | None:
        """Where its depth is; None if it is not given."""
        return None if self.depth is None or self.depth in _NO_FILES else self.depth


@dataclass(frozen=True)
class ClipList:
    """A list that was checked once; each iteration reads it anew, so that a long list is never in memory.

    Attributes:
        source: path or URL of the list, or its rows.
        count: number of clips.
        hosts: that its https URLs may name.
        version: of a list that comes from a URL; another one is refused.
    """

    source: Location | tuple[Row, ...]
    count: int
    hosts: tuple[str, ...] = ()
    version: str = ""

    def __len__(self) -> int:
        """Number of clips."""
        return self.count

    def __iter__(self) -> Iterator[ClipEntry]:
        """The clips, in the order of the list.

        Raises:
            InputError: if the list can no longer be read.
        """
        for _, entry in _entries(self.source, self.hosts, self.version):
            yield entry


def read_clip_list(source: Location | tuple[Row, ...], hosts: Sequence[str] = ()) -> ClipList:
    """Check every line of a list; does not check whether the paths exist.

    Each line sets ``clip`` and ``masks``, and may set ``depth``, ``object``, ``name``, ``frames`` and ``objects``. A
    .jsonl line is a JSON object. A .csv file starts with a line of these names, in any order; its values are separated
    by commas, semicolons or tabs, whichever the first line uses. A .txt line has tab-separated values in the order
    above; lines that start with # are comments. Empty values count as unset. Paths are relative to the list's folder; a
    list that comes from a URL may name URLs alone. The default name of a result is the clip's path as written in the
    list, with ``_`` for ``/`` and without a file suffix, followed by the object.

    Args:
        source: path or URL, or rows with the same keys, whose paths are relative to the current folder.
        hosts: that https URLs of the list may name, as ``HOST`` or ``HOST:PORT``.

    Raises:
        InputError: if the list cannot be read, is empty, has an invalid line or names what it may not, or if two
            results have the same name.
    """
    hosts, version = tuple(hosts), _version_of(source, tuple(hosts))
    hashes = array("Q", (_hash(entry.name) for _, entry in _entries(source, hosts, version)))
    if not hashes:
        raise InputError(f"input: {_told(source)}: lists no clip")
    ordered = np.sort(np.frombuffer(hashes, dtype=np.uint64))
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        _refuse_repeated(_entries(source, hosts, version), set(repeated.tolist()), _told(source))
    return ClipList(source, len(hashes), hosts, version)


def _hash(name: str) -> int:
    """64 bits that stand for a name, as a million names would take too much memory."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _refuse_repeated(entries: Iterable[tuple[int, ClipEntry]], hashes: set[int], told: str) -> None:
    """Raise an InputError for the first two lines with one name; different names may share a hash."""
    lines: dict[str, int] = {}
    for line, entry in entries:
        if _hash(entry.name) not in hashes:
            continue
        if entry.name in lines:
            raise InputError(
                f"input: {told}: lines {lines[entry.name]} and {line} are both named {entry.name}; give one of them "
                "another name"
            )
        lines[entry.name] = line


def _told(source: Location | tuple[Row, ...]) -> str:
    return "clips" if isinstance(source, tuple) else public_name(source)


def _entries(
    source: Location | tuple[Row, ...], hosts: tuple[str, ...], version: str
) -> Iterator[tuple[int, ClipEntry]]:
    """Line number and clip of each line."""
    told = _told(source)
    if isinstance(source, tuple):
        policy = UrlPolicy.of_list(Path(), hosts)
        for line, row in enumerate(source, start=1):
            yield line, _entry(row, Path(), policy, f"clips: line {line}")
        return
    readers = {".jsonl": _json_lines, ".csv": _csv_rows, ".txt": _text_rows}
    suffix = Path(told).suffix.lower()
    if suffix not in readers:
        raise InputError(f"input: {told}: expected a list named .jsonl, .csv or .txt")
    policy = UrlPolicy.of_list(source, hosts)
    path = local_path(source)
    if path is None:
        path = _copy_of(str(source), hosts, version)
    elif _version_of(source, hosts) != version:
        raise InputError(f"input: {told}: has changed while the run reads it; begin the command again")
    try:
        for line, row in readers[suffix](path, told):
            yield line, _entry(row, path.parent, policy, f"input: {told}: line {line}")
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"input: {told}: cannot be read ({error})") from error


def _policy_for(url: str, hosts: tuple[str, ...]) -> UrlPolicy | None:
    """Hosts that may be asked for a list itself: its own, and those that it may name."""
    return UrlPolicy.of_list(url, (*hosts, host_of(url))) if scheme_of(url) == INPUT_ONLY else None


def _version_of(source: Location | tuple[Row, ...], hosts: tuple[str, ...]) -> str:
    """What changes with the content of a list in a file; "" where there is none."""
    if isinstance(source, tuple):
        return ""
    path = local_path(source)
    if path is not None:
        found = path.stat() if path.is_file() else None
        return "" if found is None else f"{found.st_size} {found.st_mtime_ns}"
    return stat(source, _policy_for(str(source), hosts)).version


@lru_cache(maxsize=4)
def _copy_of(url: str, hosts: tuple[str, ...], version: str) -> Path:
    """Local copy of a list that comes from a URL, for as long as this process lives."""
    scratch = Scratch(policy=_policy_for(url, hosts))
    atexit.register(scratch.close)
    path = scratch.copy([url]).paths[url]
    if _version_of(url, hosts) != version:
        raise InputError(f"input: {public_name(url)}: has changed while it was read; begin again")
    return path


def _json_lines(path: Path, told: str) -> Iterator[tuple[int, Row]]:
    with path.open(encoding=text_encoding(path)) as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(f"input: {told}: line {number} is not JSON ({error})") from error
            if not isinstance(row, dict):
                raise InputError(
                    f'input: {told}: line {number}: expected an object such as {{"clip": ..., "masks": ...}}'
                )
            yield number, row


def _csv_rows(path: Path, told: str) -> Iterator[tuple[int, Row]]:
    with path.open(encoding=text_encoding(path), newline="") as file:
        names = file.readline()
        file.seek(0)
        separators = [mark for mark in _SEPARATORS if mark in names]
        reader = csv.DictReader(file, delimiter=separators[0] if separators else ",")
        for row in reader:
            if None in row:  # DictReader's key for values without a column name
                raise InputError(f"input: {told}: line {reader.line_num} has more values than the first line has names")
            yield reader.line_num, row


def _text_rows(path: Path, told: str) -> Iterator[tuple[int, Row]]:
    with path.open(encoding=text_encoding(path)) as file:
        for number, text in enumerate(file, start=1):
            if not text.strip() or text.startswith("#"):
                continue
            values = [value.strip() for value in text.rstrip("\r\n").split("\t")]
            if len(values) > len(COLUMNS):
                raise InputError(f"input: {told}: line {number}: expected at most {len(COLUMNS)} values between tabs")
            yield number, dict(zip(COLUMNS, values, strict=False))


def _entry(row: Row, folder: Path, policy: UrlPolicy, where: str) -> ClipEntry:
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
    located = {key: _located(given[key], folder, policy, f"{where}: {key}") for key in _FILES if key in given}
    clip = located["clip"]
    name = given.get("name") or _name(given["clip"], clip, object_name)
    if not name or {"/", "\\"} & set(name) or name.startswith(".") or name.endswith(_TAKEN):
        raise InputError(f"{where}: {name!r} is not a valid name of a result folder; choose another")
    return ClipEntry(
        name=name,
        clip=clip,
        masks=located["masks"],
        depth=depth if depth is None or depth in _NO_FILES else str(located["depth"]),
        object_name=object_name,
        frames=int(given["frames"]) if "frames" in given else None,
        objects=int(given["objects"]) if "objects" in given else None,
    )


def _located(text: str, folder: Path, policy: UrlPolicy, where: str) -> Location:
    """The path or URL that a value of a list stands for."""
    if where.endswith("depth") and text in _NO_FILES:
        return text
    policy.check(text, where)
    path = local_path(text)
    return text if path is None else folder / path


def _name(text: str, clip: Location, object_name: str | None) -> str:
    if is_url(text):
        written, is_folder = Path(public_name(text).partition("://")[2]), False
    else:
        written, is_folder = Path(text), Path(clip).is_dir()
    if written.suffix and not is_folder:  # a folder's name may have a dot
        written = written.with_suffix("")
    parts = [part for part in written.parts if part not in (written.anchor, "..")]
    return "_".join([*parts, *([object_name] if object_name else [])])
