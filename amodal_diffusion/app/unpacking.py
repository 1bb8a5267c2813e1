"""Unpacks a visitor's zip of pictures without trusting what it says of itself: names, number, sizes."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.images import SUFFIXES

_MIB = 2**20
_MOST_ENTRIES = 50_000
_DIRECTORY = 16 * _MIB  # bytes of the list of entries, which is read into memory at once
_PLAIN = 64 * _MIB  # so much may come of a zip however small
_RATIO = 200  # of what is beyond: unpacked over packed; pictures of a few colors as BMP reach it, PNG never does

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError),
    *(NotImplementedError, RuntimeError),  # an unknown compression; a password
)
_END = b"PK\x05\x06"
_LOCATOR = b"PK\x06\x07"
_END_SIZE, _LOCATOR_SIZE, _END_64_SIZE = 22, 20, 56
_LONGEST_COMMENT = 2**16


@dataclass(frozen=True)
class Room:
    """What may come out of a zip.

    Attributes:
        megabytes: MiB of all files together.
        files: number of pictures.
    """

    megabytes: int
    files: int


def unpack(packed: Path, folder: Path, room: Room, *, what: str) -> None:
    """Unpack the pictures of a zip; its other files are left out.

    Args:
        packed: the zip.
        folder: existing and empty.
        room: what may come out.
        what: name of the argument for messages.

    Raises:
        InputError: if the zip is damaged, names a place outside, or holds no picture or more than there is room for.
    """
    name = f"{what}: {packed.name}"
    try:
        _check_directory(packed, name)
        with zipfile.ZipFile(packed) as archive:
            entries = _pictures(archive, name)
            _check_amount(entries, packed, room, name)
            left = room.megabytes * _MIB
            for entry in entries:
                target = folder / _safe(entry.filename, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source:
                    content = source.read(left + 1)
                left -= len(content)
                _check_bytes(room.megabytes * _MIB - left, room, name)
                target.write_bytes(content)
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{name}: cannot be unpacked ({error}); pack it again as a plain zip") from error


def _check_directory(packed: Path, name: str) -> None:
    """Refuse a zip whose list of entries would fill the memory; :mod:`zipfile` reads all of it."""
    size = packed.stat().st_size
    with packed.open("rb") as file:
        file.seek(max(0, size - _LONGEST_COMMENT - _END_SIZE))
        tail = file.read()
        place = tail.rfind(_END)
        if place < 0 or len(tail) < place + _END_SIZE:
            return  # no zip, which `zipfile` says
        length = struct.unpack_from("<L", tail, place + 12)[0]
        start = size - len(tail) + place - _LOCATOR_SIZE  # of the locator of a zip of more than 4 GiB or 65535 files
        if tail[max(0, place - _LOCATOR_SIZE) :].startswith(_LOCATOR) and start >= _END_64_SIZE:
            file.seek(start - _END_64_SIZE)
            length = struct.unpack_from("<Q", file.read(_END_64_SIZE), 40)[0]
    if length > _DIRECTORY:
        raise InputError(f"{name}: its list of files has {length // _MIB} MiB; pack the pictures of one clip alone")


def _pictures(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    found = archive.infolist()
    if len(found) > _MOST_ENTRIES:
        raise InputError(
            f"{name}: {len(found)} files, this page unpacks at most {_MOST_ENTRIES}; pack the pictures of one clip"
        )
    entries = [entry for entry in found if _is_picture(entry.filename)]
    if not entries:
        raise InputError(f"{name}: no pictures in this zip; looked for {' '.join(SUFFIXES)}")
    return entries


def _check_amount(entries: list[zipfile.ZipInfo], packed: Path, room: Room, name: str) -> None:
    if len(entries) > room.files:
        raise InputError(
            f"{name}: {len(entries)} frames, this page takes at most {room.files}; give fewer, or start the page with "
            f"--max-frames {len(entries)}"
        )
    total = sum(entry.file_size for entry in entries)
    _check_bytes(total, room, name)
    if total > max(_PLAIN, _RATIO * packed.stat().st_size):
        raise InputError(
            f"{name}: unpacks to {total // packed.stat().st_size} times its size, as no zip of PNG or JPEG does; save "
            "the pictures as PNG and pack them again"
        )


def _check_bytes(found: int, room: Room, name: str) -> None:
    if found > room.megabytes * _MIB:
        raise InputError(
            f"{name}: {-(-found // _MIB)} MiB unpacked, this page takes at most {room.megabytes} MiB; give less, or "
            f"start the page with --max-upload {-(-found // _MIB)}"
        )


def _is_picture(name: str) -> bool:
    path = _path(name)
    return path.suffix.lower() in SUFFIXES and not any(_is_aside(part) for part in path.parts)


def _path(filename: str) -> PurePosixPath:
    """Some programs for Windows write backslashes between folders."""
    return PurePosixPath(filename.replace("\\", "/"))


def _is_aside(part: str) -> bool:
    """Whether a file or folder is hidden, or what macOS or a network storage adds."""
    return part in ("__MACOSX", "@eaDir") or (part.startswith(".") and part != "..")


def _safe(filename: str, name: str) -> PurePosixPath:
    path = _path(filename)
    if path.is_absolute() or ".." in path.parts or ":" in filename:
        raise InputError(f"{name}: holds {filename}, which points out of it; pack it again")
    return path
