"""JSON of users' files: the encodings that editors write, and nothing that JSON does not have."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any, NoReturn

from amodal_diffusion.basics import InputError

_BOMS = (  # UTF-32's first, which begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def load_json(path: Path) -> Any:  # noqa: ANN401 - what JSON has
    """Read a JSON file of UTF-8, or of UTF-8, UTF-16 or UTF-32 with a byte order mark.

    Args:
        path: the file, which is read whole.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not JSON. NaN and Infinity, which other parsers take, are not JSON.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("lists inside each other too deep to be read") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def text_encoding(path: Path) -> str:
    """The encoding of a text file by its byte order mark; UTF-8 if it has none.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return encoding_of(file.read(4))


def encoding_of(start: bytes) -> str:
    """The encoding of a text by its first 4 bytes; UTF-8 if they are no byte order mark."""
    return next((name for mark, name in _BOMS if start.startswith(mark)), "utf-8")


def first_character(start: bytes) -> str:
    """The first character of a text that is no space; empty if there is none.

    Args:
        start: the text's first bytes, in UTF-8 or with a byte order mark.
    """
    return start.decode(encoding_of(start), "ignore").lstrip()[:1]


def is_list(path: Path) -> bool:
    """Whether a JSON file is a list, not an object.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return first_character(file.read(4096)) == "["
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
