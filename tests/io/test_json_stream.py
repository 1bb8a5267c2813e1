"""JSON that is streamed: encodings, checksums, and how deep lists may lie inside each other."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

from amodal_diffusion.io.json_files import first_character
from amodal_diffusion.io.json_stream import MAX_DEPTH, JsonStream, NestingGuard

TEXT = json.dumps({"a": 'Käse ⅓ \U0001f9c0 [[[ \\\\ " {', "b": [1, [2, {"c": []}]]}, ensure_ascii=False)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("size", [4, 5, 7, -1])
def test_the_text_comes_as_plain_utf8_and_the_digest_is_the_files(encoding: str, size: int) -> None:
    data = TEXT.encode(encoding)
    stream, parts = JsonStream(io.BytesIO(data)), []
    while part := stream.read(size):
        parts.append(part)
    assert b"".join(parts).decode("utf-8") == TEXT
    assert stream.digest.hexdigest() == hashlib.sha256(data).hexdigest()
    assert first_character(data[:4096]) == "{"


@pytest.mark.parametrize("data", ["[1]".encode("utf-16") + b"\x00", b"\xff\xfe\x00\xd8[\x00"])
def test_text_that_is_not_of_its_encoding_is_refused(data: bytes) -> None:
    stream = JsonStream(io.BytesIO(data))
    with pytest.raises(UnicodeDecodeError):
        list(iter(lambda: stream.read(3), b""))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("text", "deepest"),
    [
        (TEXT, 5),
        (r'["\"[[[", "\\", {"x\\\"[": [1, "]"]}]', 3),
        (r'["\\\\", [["[", "\u005b\n["]]]', 3),
        ('{"a": "' + "[" * 1000 + '"}', 1),
        ("[[], [[]], []]", 3),
    ],
)
def test_depth_counts_brackets_outside_of_texts(text: str, deepest: int, size: int) -> None:
    data = text.encode()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    fits, exceeds = NestingGuard(), NestingGuard()
    fits.check(b"[" * (MAX_DEPTH - deepest))
    exceeds.check(b"[" * (MAX_DEPTH - deepest + 1))
    for piece in pieces:
        fits.check(piece)
    with pytest.raises(ValueError, match="more than 100 lists or objects inside each other"):
        list(map(exceeds.check, pieces))
