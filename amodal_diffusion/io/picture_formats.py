"""Which pictures are read: formats by their first bytes, whole files, sizes, errors of decoders as one line."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from amodal_diffusion.basics import InputError

FORMATS = "PNG, JPEG, WebP, BMP, TIFF, GIF, PPM, AVIF, TGA, JPEG 2000"
PILLOW_FORMATS = frozenset({"PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "TGA", "JPEG2000"})
"""Pillow's names of them."""
MAX_PIXELS = "AMODAL_MAX_PIXELS"
"""Environment variable: the most pixels of a picture, where the default is too few."""
_MOST_PIXELS = 178_956_970  # at which Pillow takes a picture for a decompression bomb
_PNG = b"\x89PNG\r\n\x1a\n"
_SIGNATURES = (
    (_PNG, "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
_OTHERS = (
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "PDF"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"PK\x03\x04", "a zip archive"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"8BPS", "a Photoshop document"),
    (b"#EXTM3U", "a playlist"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
)
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError, AssertionError,
    RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
"""What decoders raise on damaged files: all that is not an interruption."""


def identify(path: Path) -> str:
    """Find a picture's format.

    Args:
        path: the file.

    Returns:
        Pillow's name of the format.

    Raises:
        InputError: if the file is missing, empty, or of no format that is read.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    head = _head(path)
    if not head:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    found = _format_of(head, path.suffix.lower())
    if found is None:
        raise InputError(f"{path}: not a picture{_begins_like(head)}; expected {FORMATS}")
    return found


def picture_format(path: Path) -> str | None:
    """Find a picture's format by its first bytes.

    Args:
        path: an existing file.

    Returns:
        Pillow's name of the format; None where the file is no picture of a format that is read.
    """
    return _format_of(_head(path), path.suffix.lower())


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn what a decoder raises on a bad file into an InputError of one line, and keep its warnings off the terminal.

    Args:
        path: the file, named in the message.

    Raises:
        InputError: in place of any error of the decoder.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}; set {MAX_PIXELS} to read larger pictures") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: damaged or unreadable picture (not a picture that Pillow can read)") from error
    except _BROKEN as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: damaged or unreadable picture ({text})") from error


def pixel_limit() -> int | None:
    """The largest number of pixels of a picture that the environment variable ``AMODAL_MAX_PIXELS`` sets, if any.

    Raises:
        InputError: if it is no number above 0.
    """
    text = os.environ.get(MAX_PIXELS, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise InputError(f"{MAX_PIXELS}: expected a number of pixels above 0, got {text}")
    return int(text)


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a picture whose pixels would fill the memory.

    Args:
        path: the file, named in the message.
        width: pixels.
        height: pixels.

    Raises:
        InputError: if there are more pixels than allowed.
    """
    limit = pixel_limit() or _MOST_PIXELS
    if width * height > limit:
        raise InputError(
            f"{path}: {width}x{height} pixels, at most {limit} are read, as such files can be made to fill the memory; "
            f"set {MAX_PIXELS}={width * height} to read it"
        )


def check_png(path: Path) -> bytes | None:
    """Check that a PNG is whole: every chunk's checksum, and the end mark.

    Pillow takes pixels from chunks whose checksum is wrong, and animations that end early.

    Args:
        path: a PNG.

    Returns:
        content of the ``sBIT`` chunk: significant bits, a byte a channel; None where there is none.

    Raises:
        InputError: if a chunk is damaged or the file ends early.
    """
    significant, size = None, path.stat().st_size
    with path.open("rb") as file:
        file.seek(len(_PNG))
        while True:
            start = file.read(8)
            length = int.from_bytes(start[:4], "big")
            held = min(length, size)  # reading takes the memory that is asked for, whatever the file holds
            kind, content, check = start[4:], file.read(held), file.read(4)
            if len(start) < 8 or len(content) < length or len(check) < 4:
                raise InputError(f"{path}: damaged or unreadable picture (image file is truncated); give a whole file")
            if zlib.crc32(kind + content) != int.from_bytes(check, "big"):
                name = kind.decode("latin-1")
                raise InputError(
                    f"{path}: damaged or unreadable picture (wrong checksum of {name!r}); give a whole file"
                )
            if kind == b"sBIT":
                significant = content
            if kind == b"IEND":
                return significant


def check_tiff(path: Path) -> None:
    """Check that the directories of all pages of a TIFF lie in the file.

    Readers take a file that is cut off for one of fewer pages.

    Args:
        path: a TIFF.

    Raises:
        InputError: if the file ends early, or the directories go round in a circle.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = ">" if head[:2] == b"MM" else "<"
        big = head[2:4] in (b"+\x00", b"\x00+")
        count, entry, link = ("Q", 20, "Q") if big else ("H", 12, "L")
        place = _unpack(order + link, head[8:] if big else head[4:])
        seen: set[int] = set()
        while place:
            file.seek(min(place, size))
            entries = _unpack(order + count, file.read(struct.calcsize(order + count)))
            file.seek(min(place + struct.calcsize(order + count) + entries * entry, size))
            after = file.read(struct.calcsize(order + link))
            if place in seen or len(after) < struct.calcsize(order + link):
                raise InputError(f"{path}: damaged or unreadable picture (its list of pages is cut off)")
            seen.add(place)
            place = _unpack(order + link, after)


def check_gif(path: Path) -> str | None:
    """Look for the end mark of a GIF; without it frames may be missing, and no reader would notice.

    Args:
        path: a GIF.

    Returns:
        what the user should know; None where there is an end mark.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 256))
        ends = file.read().rstrip(b"\x00").endswith(b";")
    return None if ends else f"{path}: the end mark of the GIF is missing; frames at its end may be missing, too"


def _unpack(code: str, data: bytes) -> int:
    """The first number of some bytes; 0 where they are too few."""
    width = struct.calcsize(code)
    return int(struct.unpack(code, data[:width])[0]) if len(data) >= width else 0


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _format_of(head: bytes, suffix: str) -> str | None:
    found = next((name for start, name in _SIGNATURES if head.startswith(start)), None)
    if found == "JPEG" and suffix in (".mjpeg", ".mjpg"):
        return None  # a video of JPEG pictures begins as its first
    if found is not None:
        return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3].isspace():
        return "PPM"
    if head[4:8] == b"ftyp" and _brands(head) & {b"avif", b"avis"}:
        return "AVIF"
    return "TGA" if suffix == ".tga" else None  # which has no signature


def _brands(head: bytes) -> set[bytes]:
    """Major and compatible brands of a file of MP4's kind."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[place : place + 4] for place in (8, *range(16, end, 4))}


def _begins_like(head: bytes) -> str:
    """What else a file may be, as part of a message."""
    found = next((name for start, name in _OTHERS if head.lstrip().startswith(start)), None)
    if head[4:8] == b"ftyp":
        found = "HEIF" if _brands(head) & {b"heic", b"heix", b"mif1"} else "an MP4 or MOV video"
    if head[:4] == b"RIFF":
        found = "an AVI video" if head[8:11] == b"AVI" else None
    return f" but {found}, by its first bytes" if found else ""
