"""Large JSON files of users, read in pieces: what ijson wants, and how deep it may be."""

from __future__ import annotations

import codecs
import hashlib
from typing import BinaryIO

import numpy as np

from amodal_diffusion.io.json_files import encoding_of

MAX_DEPTH = 100
"""Lists and objects inside each other in a file that is streamed; annotation files have fewer than 10."""
_NEITHER = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STEPS = np.array([(byte in b"[{") - (byte in b"]}") for byte in range(256)], np.int64)


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
