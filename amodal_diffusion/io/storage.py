"""Reading and writing objects of a storage service through fsspec, with retries, and local files by the same calls."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal_diffusion.io import https
from amodal_diffusion.io.atomic import make_folder, replacing_file
from amodal_diffusion.io.retries import MissingError, UnavailableError, attempt, explained
from amodal_diffusion.io.urls import INPUT_ONLY, Location, join, local_path, public_name, scheme_of
from amodal_diffusion.types import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["MissingError", "UnavailableError", "join", "read_bytes", "read_range", "upload", "write_bytes"]

BLOCK = 16 << 20
"""Bytes that one request reads of a large object."""
BATCH = 64
"""Most requests that are under way at a time."""

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
        fs, key = _opened(location)
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
    fs, key = _opened(location)
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
    fs, key = _opened(location, writing=True)
    attempt(lambda: fs.pipe_file(key, data, **_replacing(location)), location, verb="written")


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
    fs, key = _opened(location, writing=True)
    attempt(lambda: fs.put_file(str(path), key, **_replacing(location)), location, verb="written")


def _read_local(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _write_local(path: Path, data: bytes) -> None:
    make_folder(path.parent)
    with replacing_file(path) as partial:
        partial.write_bytes(data)


def _copy_local(source: Path, path: Path) -> None:
    make_folder(path.parent)
    with replacing_file(path) as partial:
        shutil.copyfile(source, partial)


def _read_https(url: str) -> bytes:
    buffer = BytesIO()
    https.save(url, buffer)
    return buffer.getvalue()


def _opened(location: Location, *, writing: bool = False) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a URL, and the object's key in it.

    fsspec keeps one instance for each process and thread, and makes a new one after a fork.
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
            f"pip install {_PACKAGES[str(scheme)]}"
        ) from error
    except Exception as error:  # noqa: BLE001  # the libraries of a filesystem have errors of no common class
        raise explained(error, location, "opened") from None
    if scheme == "s3":
        fs.retries = 1
    return fs, fs._strip_protocol(str(location))


def _replacing(location: Location) -> dict[str, Any]:
    """Arguments with which a filesystem replaces an object."""
    return {"overwrite": True} if scheme_of(location) == "az" else {}
