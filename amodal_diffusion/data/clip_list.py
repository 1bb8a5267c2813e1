"""Lists of clips to complete: JSON lines, CSV or tab-separated text, one clip per line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.io.json_files import text_encoding
from amodal_diffusion.types import InputError

COLUMNS = ("clip", "masks", "depth", "object", "name")
_REQUIRED = ("clip", "masks")
_NO_FILES = ("auto", "none")  # values of depth that are not paths
_TAKEN = (".partial", ".replaced", ".json")  # suffixes of unfinished result folders and of error records


@dataclass(frozen=True)
class ClipEntry:
    """One clip of a list.

    Attributes:
        name: name of its result folder, unique in the list.
        clip: a video, a folder of images, or one image.
        masks: modal (visible) masks.
        depth: ``"auto"``, ``"none"`` or a path; None if the list does not set it.
        object_name: the only object to complete; None for all.
    """

    name: str
    clip: Path
    masks: Path
    depth: str | None = None
    object_name: str | None = None


def read_clip_list(path: str | Path) -> list[ClipEntry]:
    """Read a list; does not check whether the paths exist.

    Each line sets ``clip`` and ``masks``, and may set ``depth``, ``object`` and ``name``. A .jsonl line is a JSON
    object. A .csv file starts with a line of these names, in any order. A .txt line has tab-separated values in the
    order above; lines that start with # are comments. Empty values count as unset. Paths are relative to the list's
    folder. The default name of a result is the clip's path as written in the list, with ``_`` for ``/`` and without a
    file suffix, followed by the object.

    Args:
        path: the list.

    Raises:
        InputError: if the list cannot be read, is empty or has an invalid line, or if two results have the same name.
    """
    path = Path(path)
    readers = {".jsonl": _json_lines, ".csv": _csv_rows, ".txt": _text_rows}
    if path.suffix.lower() not in readers:
        raise InputError(f"input: {path}: expected a list named .jsonl, .csv or .txt")
    entries: dict[str, ClipEntry] = {}
    lines: dict[str, int] = {}
    try:
        for line, row in readers[path.suffix.lower()](path):
            entry = _entry(row, path, line)
            if entry.name in entries:
                raise InputError(
                    f"input: {path}: lines {lines[entry.name]} and {line} are both named {entry.name}; give one of "
                    "them another name"
                )
            entries[entry.name], lines[entry.name] = entry, line
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"input: {path}: cannot be read ({error})") from error
    if not entries:
        raise InputError(f"input: {path}: lists no clip")
    return list(entries.values())


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
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


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    with path.open(encoding=text_encoding(path), newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            if None in row:  # DictReader's key for values without a column name
                raise InputError(f"input: {path}: line {reader.line_num} has more values than the first line has names")
            yield reader.line_num, row


def _text_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    with path.open(encoding=text_encoding(path)) as file:
        for number, text in enumerate(file, start=1):
            if not text.strip() or text.startswith("#"):
                continue
            values = [value.strip() for value in text.rstrip("\r\n").split("\t")]
            if len(values) > len(COLUMNS):
                raise InputError(f"input: {path}: line {number}: expected at most {len(COLUMNS)} values between tabs")
            yield number, dict(zip(COLUMNS, values, strict=False))


def _entry(row: Mapping[str, object], path: Path, line: int) -> ClipEntry:
    unknown = sorted(set(row) - set(COLUMNS))
    if unknown:
        raise InputError(f"input: {path}: line {line}: {unknown[0]} is unknown; there are {', '.join(COLUMNS)}")
    given = {
        key: value if isinstance(value, str) else f"{value}" for key, value in row.items() if value not in ("", None)
    }
    missing = [key for key in _REQUIRED if key not in given]
    if missing:
        raise InputError(f"input: {path}: line {line}: no {' and no '.join(missing)}")
    depth, object_name = given.get("depth"), given.get("object")
    clip = path.parent / given["clip"]
    name = given.get("name") or _name(given["clip"], clip, object_name)
    if not name or {"/", "\\"} & set(name) or name.startswith(".") or name.endswith(_TAKEN):
        raise InputError(f"input: {path}: line {line}: {name!r} is not a valid name of a result folder; choose another")
    return ClipEntry(
        name=name,
        clip=clip,
        masks=path.parent / given["masks"],
        depth=depth if depth is None or depth in _NO_FILES else str(path.parent / depth),
        object_name=object_name,
    )


def _name(text: str, clip: Path, object_name: str | None) -> str:
    written = Path(text) if clip.is_dir() else Path(text).with_suffix("")
    parts = [part for part in written.parts if part not in (written.anchor, "..")]
    return "_".join([*parts, *([object_name] if object_name else [])])
