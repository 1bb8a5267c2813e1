"""Copies of files and folders to and from a storage service, and lists of what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.io import https
from amodal_diffusion.io.retries import attempt
from amodal_diffusion.io.storage import open_filesystem, read_ranges, replacing, upload
from amodal_diffusion.io.urls import (
    INPUT_ONLY,
    Location,
    UrlPolicy,
    is_relative,
    join,
    local_path,
    public_name,
    scheme_of,
)

BLOCK = 16 << 20
"""Bytes that one request reads of a large object."""
GROUP = 64 << 20
"""Bytes that are held in memory at a time."""
BATCH = 64
"""Most files of one group."""
MARKER_BATCH = 1024
"""Most questions for markers that are sent at a time."""

_VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")
"""Names under which filesystems tell what changes with the content, the best first."""


@dataclass(frozen=True)
class StoredFile:
    """A file or object.

    Attributes:
        name: below the folder that was listed, with ``/`` between its parts; "" for the location itself.
        size: bytes; None if the server does not tell it.
        version: its ETag, or the time of its last change where there is none; "" if the server tells neither.
    """

    name: str
    size: int | None
    version: str


def stat(location: Location, policy: UrlPolicy | None = None) -> StoredFile:
    """Size and version of a file or object.

    Args:
        location: a path or URL.
        policy: hosts that https may ask; that of the URL by default.

    Raises:
        MissingError: if there is none.
        InputError: as :func:`~amodal_diffusion.io.storage.read_range`.
    """
    path = local_path(location)
    if path is not None:
        status = attempt(path.stat, location)
        return StoredFile("", status.st_size, f"{status.st_mtime_ns}")
    if scheme_of(location) == INPUT_ONLY:
        return StoredFile("", *attempt(lambda: https.stat(str(location), policy), location))
    fs, key = open_filesystem(location)
    return _stored("", attempt(lambda: fs.info(key), location))


def list_files(location: Location, policy: UrlPolicy | None = None) -> list[StoredFile]:
    """List a file or object, or all below a folder, sorted by name.

    Args:
        location: a URL of a bucket or of https; https has no folders.
        policy: hosts that https may ask; that of the URL by default.

    Returns:
        one entry without a name if the location is a file or object.

    Raises:
        MissingError: if there is none.
        InputError: as :func:`~amodal_diffusion.io.storage.read_range`, or if a name leads out of the folder.
    """
    if local_path(location) is not None or scheme_of(location) == INPUT_ONLY:
        return [stat(location, policy)]
    fs, key = open_filesystem(location)
    info = attempt(lambda: fs.info(key), location)
    if info["type"] != "directory":
        return [_stored("", info)]
    found = attempt(lambda: fs.find(key, detail=True), location)
    prefix, files = f"{key.rstrip('/')}/", []
    for name, entry in sorted(found.items()):
        if entry["type"] == "directory" or name.endswith("/"):  # an empty object that stands for a folder
            continue
        below = name.removeprefix(prefix)
        if not is_relative(below):
            raise InputError(f"{public_name(location)}: {below!r} cannot be the name of a local file")
        files.append(_stored(below, entry))
    return files


def fingerprint(files: Iterable[StoredFile]) -> str:
    """SHA-256 of the names, sizes and versions of files: it changes if one of them does."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.size}\0{file.version}\n".encode())
    return digest.hexdigest()


def marked(folder: Location, beginnings: Mapping[str, bytes], marker: str) -> set[str]:
    """Which of some subfolders hold a file of a name that begins in some way.

    Args:
        folder: URL of a bucket or of a folder in it.
        beginnings: first bytes of the file, at least one, by name of the subfolder, which need not exist.
        marker: name of the file.

    Raises:
        InputError: as :func:`~amodal_diffusion.io.storage.read_range`.
    """
    fs, key = open_filesystem(folder)
    found, names = set[str](), list(beginnings)
    for start in range(0, len(names), MARKER_BATCH):
        batch = names[start : start + MARKER_BATCH]
        # Parts of files, as fsspec sends such requests together, which it does not for `info`.
        wanted = [(f"{key.rstrip('/')}/{name}/{marker}", 0, len(beginnings[name])) for name in batch]
        parts = read_ranges(fs, wanted, folder)
        found.update(name for name, part in zip(batch, parts, strict=True) if part == beginnings[name])
    return found


def download(
    location: Location,
    files: Sequence[StoredFile],
    target: Path,
    *,
    limit: int,
    policy: UrlPolicy | None = None,
    on_progress: Callable[[], None] | None = None,
) -> int:
    """Copy a file or folder to the disk.

    Args:
        location: a URL.
        files: what :func:`list_files` returned for it.
        target: the new file or folder; its parent folder must exist.
        limit: most bytes of a file whose size the server does not tell.
        policy: hosts that https may ask; that of the URL by default.
        on_progress: called when a part has arrived.

    Returns:
        number of bytes.

    Raises:
        InputError: as :func:`~amodal_diffusion.io.storage.read_range`, or if an object has changed meanwhile.
        OSError: if the disk is full or cannot be written.
    """
    if scheme_of(location) == INPUT_ONLY:
        size = files[0].size
        most = limit if size is None else size
        count = attempt(lambda: _save(str(location), target, most, policy, on_progress), location)
        if size is not None and count != size:
            raise _changed(location)
        return count
    locations = {file.name: join(location, file.name) if file.name else location for file in files}
    in_blocks = {file.name: stat(locations[file.name]) for file in files if (file.size or 0) > BLOCK}
    _copy_blocks(location, files, target, on_progress)
    for name, before in in_blocks.items():
        if stat(locations[name]) != before:
            raise _changed(locations[name])
    return sum(file.size or 0 for file in files)


def _copy_blocks(
    location: Location, files: Sequence[StoredFile], target: Path, on_progress: Callable[[], None] | None
) -> None:
    """Read the files of a list in blocks, several at a time, and append each block to its copy."""
    fs, key = open_filesystem(location)
    keys = {file.name: f"{key.rstrip('/')}/{file.name}" if file.name else key for file in files}
    paths = {file.name: target / file.name if file.name else target for file in files}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for group in _groups(files):
        parts = read_ranges(fs, [(keys[file.name], start, end) for file, start, end in group], location)
        for (file, start, end), part in zip(group, parts, strict=True):
            if part is None or len(part) != end - start:
                raise _changed(join(location, file.name) if file.name else location)
            with paths[file.name].open("ab") as copy:  # the blocks of a file come in order
                copy.write(part)
        if on_progress is not None:
            on_progress()


def _changed(location: Location) -> InputError:
    return InputError(f"{public_name(location)}: has changed while it was copied; run the same command again")


def _groups(files: Iterable[StoredFile]) -> Iterator[list[tuple[StoredFile, int, int]]]:
    """Blocks of files, at most `GROUP` bytes and `BATCH` blocks together."""
    group: list[tuple[StoredFile, int, int]] = []
    held = 0
    for file in files:
        size = file.size or 0
        for start in range(0, size, BLOCK):
            end = min(start + BLOCK, size)
            if len(group) == BATCH or (group and held + end - start > GROUP):
                yield group
                group, held = [], 0
            group.append((file, start, end))
            held += end - start
    if group:
        yield group


def _save(url: str, target: Path, limit: int, policy: UrlPolicy | None, on_progress: Callable[[], None] | None) -> int:
    with target.open("wb") as file:
        return https.save(url, file, limit, policy, on_progress)


def upload_folder(
    folder: Path, location: Location, *, last: str, on_progress: Callable[[], None] | None = None
) -> None:
    """Copy all files below a folder; whoever finds the last one finds all.

    Args:
        folder: existing.
        location: the new folder.
        last: name of the file in the folder that is copied when all others have arrived.
        on_progress: called when some files have arrived.

    Raises:
        InputError: as :func:`~amodal_diffusion.io.storage.write_bytes`.
    """
    names = names_below(folder)
    names.remove(last)
    if local_path(location) is not None:
        for name in (*names, last):
            upload(folder / name, join(location, name))
        return
    fs, key = open_filesystem(location, writing=True)
    sizes = [StoredFile(name, (folder / name).stat().st_size, "") for name in names]
    for group in _batches(sizes):
        sources = [str(folder / file.name) for file in group]
        targets = [f"{key.rstrip('/')}/{file.name}" for file in group]
        attempt(lambda: fs.put(sources, targets, **replacing(location)), location, verb="written")  # noqa: B023
        if on_progress is not None:
            on_progress()
    upload(folder / last, join(location, last))


def names_below(folder: Path) -> list[str]:
    """Names of all files below a local folder, with ``/`` between their parts, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _batches(files: Iterable[StoredFile]) -> Iterator[list[StoredFile]]:
    """Files that are sent together: a file above `GROUP` bytes alone, as filesystems read small files whole."""
    batch: list[StoredFile] = []
    held = 0
    for file in files:
        size = file.size or 0
        if len(batch) == BATCH or (batch and held + size > GROUP):
            yield batch
            batch, held = [], 0
        batch.append(file)
        held += size
    if batch:
        yield batch


def _stored(name: str, info: Mapping[str, Any]) -> StoredFile:
    version = next((info[key] for key in _VERSIONS if info.get(key)), "")
    version = str(version.timestamp() if isinstance(version, datetime) else version)
    return StoredFile(name, info["size"], version)
