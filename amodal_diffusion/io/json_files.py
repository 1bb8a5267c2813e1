"""JSON of users' files: the encodings that editors write, and nothing that JSON does not have."""

from __future__ import annotations

import codecs
import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from amodal_diffusion.types import InputError

MAX_DEPTH = 100
"""Lists and objects inside each other in a file that is streamed; annotation files have fewer than 10."""
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


class JsonStream:
    """A JSON file as ijson wants it: UTF-8 without a byte order mark; hashed as it is read.

    Attributes:
        digest: SHA-256 of the bytes of the file that are read by now.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Take a file.

        Args:
            file: opened in binary mode, at its start.
        """
        self.digest = hashlib.sha256()
        self._file, self._guard = file, NestingGuard()
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begun = False

    def read(self, size: int = -1) -> bytes:
        """Read some of the text.

        Args:
            size: bytes of the file; all by default.

        Returns:
            UTF-8; empty at the end of the file.

        Raises:
            ValueError: if the text is not of its encoding, or its lists and objects lie inside each other too deep.
        """
        while data := self._file.read(size):
            self.digest.update(data)
            if not self._begun:
                self._begin(data)
            text = data if self._decoder is None else self._decoder.decode(data).encode("utf-8")
            if text:
                self._guard.check(text)
                return text
            if size == 0:
                break
        if data == b"" and self._decoder is not None:
            self._decoder.decode(b"", final=True)
        return b""

    def _begin(self, data: bytes) -> None:
        self._begun = True
        encoding = encoding_of(data)
        if encoding != "utf-8":
            self._decoder = codecs.getincrementaldecoder(encoding)()


class NestingGuard:
    """Follows how deep the lists and objects of a JSON text lie inside each other.

    ijson keeps the path to the current value at every level, which takes memory of the square of the depth: 100 kB of
    brackets take all that there is.
    """

    def __init__(self) -> None:
        self._depth, self._inside_text, self._left = 0, False, b""

    def check(self, data: bytes) -> None:
        """Look at the next bytes of the text.

        Args:
            data: UTF-8.

        Raises:
            ValueError: if more than `MAX_DEPTH` levels are open.
        """
        data = self._left + data
        backslashes = len(data) - len(data.rstrip(b"\\"))
        self._left = data[len(data) - backslashes % 2 :]  # an escape whose second half is still to come
        data = data[: len(data) - len(self._left)].replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = data.translate(None, delete=_NEITHER).split(b'"')  # inside and outside of texts, by turns
        outside = b"".join(parts[int(self._inside_text) :: 2])
        self._inside_text ^= len(parts) % 2 == 0
        steps = _STEPS[np.frombuffer(outside, np.uint8)].cumsum()
        if len(steps):
            if self._depth + steps.max() > MAX_DEPTH:
                raise ValueError(f"more than {MAX_DEPTH} lists or objects inside each other")
            self._depth += int(steps[-1])


_NEITHER = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STEPS = np.array([(byte in b"[{") - (byte in b"]}") for byte in range(256)], np.int64)


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
