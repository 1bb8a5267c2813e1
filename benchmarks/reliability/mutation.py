"""Damage that a seed decides: to the bytes of a file, and to the values of a JSON file."""

from __future__ import annotations

import copy
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HEAD = 512  # bytes in which most formats have their headers
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_VALUES = (
    *(None, True, 0, -1, 1, 0.5, 7.0, 2**31, 2**32, 2**63, 10**30, 10**400, 1e300, -1e9),
    *("", "x", "1", "../../x", "\x00", "\ud800", "9" * 5000, "P6" * 500, [], {}, [[]], [None], [[1, 2]], {"a": None}),
)
_TEXTS = ("NaN", "Infinity", "1e999", "-0", "[" * 3000, '{"a":' * 3000, "1" * 5000, "\ufeff", "nul", '"\\u00')


def mutate(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """A damaged copy of a file's content; now and then as it was.

    Args:
        data: the content.
        suffix: of the file's name: ``.json`` gets other values most of the time, ``.png`` right checksums half of it.
        rng: decides.
    """
    if suffix == ".json" and rng.random() < 0.7:
        return _other_values(data, rng)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_WAYS)(changed, rng)
    if suffix == ".png" and rng.random() < 0.5:
        _repair_checksums(changed)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    """A place in the data; in the first bytes half of the time."""
    return rng.randrange(min(len(data), _HEAD) if rng.random() < 0.5 else len(data)) if data else 0


def _length(data: bytearray, rng: random.Random) -> int:
    """A length that is short most of the time."""
    return min(len(data), int(2 ** rng.uniform(0, 12)))


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8) if data else 0):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8))
    place = _place(data, rng)
    value = rng.choice(_NUMBERS) % 256**size
    data[place : place + size] = value.to_bytes(size, rng.choice(("big", "little")))  # type: ignore[arg-type]


def _noise(data: bytearray, rng: random.Random) -> None:
    place, length = _place(data, rng), _length(data, rng)
    data[place : place + length] = rng.randbytes(length)


def _zeros(data: bytearray, rng: random.Random) -> None:
    place, length = _place(data, rng), _length(data, rng)
    data[place : place + length] = bytes(length)


def _cut_off(data: bytearray, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    place = _place(data, rng)
    del data[place : place + _length(data, rng)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    place = _place(data, rng)
    data[place:place] = data[place : place + _length(data, rng)] * rng.choice((1, 2, 20))


def _move(data: bytearray, rng: random.Random) -> None:
    place, target, length = _place(data, rng), _place(data, rng), _length(data, rng)
    data[target : target + length] = data[place : place + length]


def _insert_text(data: bytearray, rng: random.Random) -> None:
    place = _place(data, rng)
    data[place:place] = rng.choice(_TEXTS).encode()


_WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _number, _number, _noise, _zeros, _cut_off, _remove, _repeat, _move, _insert_text),
)


def _repair_checksums(data: bytearray) -> None:
    """Give the chunks of a PNG the checksums of their content, so that a reader goes on behind them."""
    place = 8
    while place + 12 <= len(data):
        length = struct.unpack_from(">I", data, place)[0]
        end = place + 8 + length
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[place + 4 : end]))
        place = end + 4


def _other_values(data: bytes, rng: random.Random) -> bytes:
    """Put other values into a JSON text, or leave some out or repeat them."""
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = _changed(content, rng)
    text = json.dumps(content)
    if rng.random() < 0.2:
        places = [place for place, letter in enumerate(text) if letter in "0123456789"]
        place = rng.choice(places or [0])
        text = text[:place] + rng.choice(_TEXTS) + text[place + 1 :]
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32")), "surrogatepass")


def _changed(content: Any, rng: random.Random) -> Any:  # noqa: ANN401 - JSON
    """A value in which one value, at any depth, is another."""
    if not isinstance(content, dict | list) or not content or rng.random() < 0.15:
        return copy.deepcopy(rng.choice(_VALUES))
    key = rng.choice(list(content)) if isinstance(content, dict) else rng.randrange(len(content))
    way = rng.random()
    if way < 0.1:
        del content[key]
    elif way < 0.2 and isinstance(content, list):
        content.insert(key, copy.deepcopy(content[key]))
    else:
        content[key] = _changed(content[key], rng)
    return content


def files_below(path: Path) -> list[Path]:
    """The file itself, or all files below a folder, in order."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
