"""Reading and writing objects of a storage service through fsspec, with retries, and local files by the same calls."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.io import https
from amodal_diffusion.io.atomic import make_folder, replacing_file
from amodal_diffusion.io.retries import MissingError, attempt, explained, status_of
from amodal_diffusion.io.urls import INPUT_ONLY, Location, join, local_path, public_name, scheme_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


__all__ = [
    "MissingError",
    "create",
    "join",
    "open_filesystem",
    "read_bytes",
    "read_range",
    "read_ranges",
    "remove",
    "replacing",
    "upload",
    "write_bytes",
]

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}


def read_range(location: Location, start: int, length: int) -> bytes:
    """Read a part of a file or object by one request.

    Args:
        location: a path or URL.
        start: offset of the first byte.
        length: number of bytes.

    Returns:
        exactly ``length`` bytes.

    Raises:
        MissingError: if there is no such object or access is forbidden.
        UnavailableError: after three retries of a transient error.
        InputError: if it is shorter than that or cannot be read.
    """
    if length == 0:
        return b""
    path = local_path(location)
    if path is not None:
        data = attempt(lambda: _read_local(path, start, length), location)
    elif scheme_of(location) == INPUT_ONLY:
        data = attempt(lambda: https.read(str(location), start, length), location)
    else:
        fs, key = open_filesystem(location)
        data = attempt(lambda: bytes(fs.cat_file(key, start=start, end=start + length)), location)
    if len(data) != length:
        raise InputError(f"{public_name(location)}: {len(data)} bytes from byte {start} on, expected {length}")
    return data


def read_bytes(location: Location) -> bytes:
    """Read a whole file or object.

    Raises:
        InputError: as :func:`read_range`.
    """
    path = local_path(location)
    if path is not None:
        return attempt(path.read_bytes, location)
    if scheme_of(location) == INPUT_ONLY:
        return attempt(lambda: _read_https(str(location)), location)
    fs, key = open_filesystem(location)
    return attempt(lambda: bytes(fs.cat_file(key)), location)


def write_bytes(location: Location, data: bytes) -> None:
    """Write a whole file or object; what was there is replaced in one step.

    Args:
        location: a path, whose missing parent folders are made, or a URL.
        data: the content.

    Raises:
        InputError: if it cannot be written; an `UnavailableError` after three retries of a transient error.
    """
    path = local_path(location)
    if path is not None:
        attempt(lambda: _write_local(path, data), location, verb="written")
        return
    fs, key = open_filesystem(location, writing=True)
    attempt(lambda: fs.pipe_file(key, data, **replacing(location)), location, verb="written")


def upload(path: Path, location: Location) -> None:
    """Copy a local file to a file or object, which it replaces.

    Args:
        path: the file.
        location: its new place.

    Raises:
        InputError: as :func:`write_bytes`.
    """
    target = local_path(location)
    if target is not None:
        attempt(lambda: _copy_local(path, target), location, verb="written")
        return
    fs, key = open_filesystem(location, writing=True)
    attempt(lambda: fs.put_file(str(path), key, **replacing(location)), location, verb="written")


def create(location: Location, data: bytes) -> bool:
    """Write a file or object unless there is one; of several processes that try, one succeeds.

    Args:
        location: a path or URL.
        data: the content; no other process writes the same.

    Returns:
        whether it was made now.

    Raises:
        InputError: as :func:`write_bytes`.
    """
    path = local_path(location)
    if path is not None:
        return attempt(lambda: _create_local(path, data), location, verb="written")
    fs, key = open_filesystem(location, writing=True)
    exclusive = {"overwrite": False} if scheme_of(location) == "az" else {"mode": "create"}

    def try_once() -> bool:
        try:
            fs.pipe_file(key, data, **exclusive)
        except Exception as error:
            if not _says_it_exists(error):
                raise
            # A try whose answer was lost may have made it, ours or one of the HTTP library.
            return bytes(fs.cat_file(key)) == data
        return True

    return attempt(try_once, location, verb="written")


def remove(location: Location) -> None:
    """Remove a file or object; nothing happens if there is none.

    Raises:
        InputError: if it cannot be removed.
    """
    path = local_path(location)
    if path is not None:
        attempt(lambda: path.unlink(missing_ok=True), location, verb="removed")
        return
    fs, key = open_filesystem(location, writing=True)
    try:
        attempt(lambda: fs.rm_file(key), location, verb="removed")
    except MissingError as error:
        if error.forbidden:
            raise


def read_ranges(
    fs: AbstractFileSystem, ranges: Sequence[tuple[str, int, int]], location: Location
) -> list[bytes | None]:
    """Read parts of objects by requests that are sent together; only those that fail are sent again.

    Args:
        fs: filesystem of the objects.
        ranges: key, first byte and end of each part.
        location: that all of them are below, for the error.

    Returns:
        bytes for each part; None if there is no such object.

    Raises:
        InputError: as :func:`read_range`.
    """
    answers: dict[int, bytes | None] = {}

    def ask() -> None:
        left = [number for number in range(len(ranges)) if number not in answers]
        keys, starts, ends = (list(column) for column in zip(*(ranges[number] for number in left), strict=True))
        failure: BaseException | None = None
        for number, answer in zip(left, fs.cat_ranges(keys, starts, ends, on_error="return"), strict=True):
            if isinstance(answer, FileNotFoundError):
                answers[number] = None
            elif isinstance(answer, BaseException):
                failure = answer
            else:
                answers[number] = bytes(answer)
        if failure is not None:
            raise failure

    if ranges:
        attempt(ask, location)
    return [answers[number] for number in range(len(ranges))]


def _read_local(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _write_local(path: Path, data: bytes) -> None:
    make_folder(path.parent)
    with replacing_file(path) as partial:
        partial.write_bytes(data)


def _create_local(path: Path, data: bytes) -> bool:
    make_folder(path.parent)
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _says_it_exists(error: Exception) -> bool:
    """Whether a service refused to make an object because there is one."""
    is_azures = type(error).__name__ == "ResourceExistsError"
    return isinstance(error, FileExistsError) or is_azures or status_of(error) == 412


def _copy_local(source: Path, path: Path) -> None:
    make_folder(path.parent)
    with replacing_file(path) as partial:
        shutil.copyfile(source, partial)


def _read_https(url: str) -> bytes:
    buffer = BytesIO()
    https.save(url, buffer)
    return buffer.getvalue()


def open_filesystem(location: Location, *, writing: bool = False) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a URL of a bucket, and the object's key in it.

    fsspec keeps one instance for each process and thread, and makes a new one after a fork.

    Raises:
        InputError: if its package is not installed, its options are wrong, or the URL is for input only.
    """
    import fsspec

    scheme = scheme_of(location)
    if scheme == INPUT_ONLY and writing:
        raise InputError(f"{public_name(location)}: https is for input only; write to s3://, gs://, az:// or a folder")
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":  # the retries are ours
        options["config_kwargs"] = {"retries": {"mode": "standard", "total_max_attempts": 1}}
    try:
        fs = fsspec.filesystem(str(scheme), **options)
    except ImportError as error:
        raise InputError(
            f"{public_name(location)}: {scheme}:// needs the package {_PACKAGES[str(scheme)]}; "
            f"pip install 'amodal-diffusion[{scheme}]'"
        ) from error
    except Exception as error:  # noqa: BLE001  # the libraries of a filesystem have errors of no common class
        raise explained(error, location, "opened") from None
    if scheme == "s3":
        fs.retries = 1
    return fs, fs._strip_protocol(str(location))


def replacing(location: Location) -> dict[str, Any]:
    """Arguments with which the filesystem of a URL replaces an object."""
    return {"overwrite": True} if scheme_of(location) == "az" else {}
