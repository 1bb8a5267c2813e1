"""A sample of a shard as plain tar members, in WebDataset's naming: what is written, and what alone is read.

A sample has the members ``KEY.json`` (its record), ``KEY.depth.npy`` or ``KEY.depth.000.png``, ``KEY.frame.000.png``
and ``KEY.whole.000.png``, in this order, so that a reader of masks and depth stops before the frames (docs/data.md).
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from amodal_diffusion.io.images import open_content
from amodal_diffusion.types import FloatArray, UInt8Array

BLOCK = tarfile.BLOCKSIZE
_KEPT = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}
"""Endings of pictures that are kept as they are, if Pillow alone decodes them to the frame."""
_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
_MEMBER = re.compile(
    r"(?P<key>\d{8,12})\.(?P<what>json|depth\.npy|(?:depth|whole)\.\d{3,6}\.png|frame\.\d{3,6}\.(?:png|jpg|webp))"
)
_COMPRESSION = 1
"""Of PNG: the highest level takes five times as long for a twentieth fewer bytes."""

Members = Mapping[str, bytes]
"""Content of each member by its name after the key, such as ``frame.000.png``."""


@dataclass(frozen=True)
class ShardSample:
    """What a shard keeps of one object through one clip.

    Attributes:
        record: its entry in an annotation file, as JSON has it.
        rgb: frames, uint8 ``[F, H, W, 3]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None without.
        whole_rgb: complete object on white, uint8 ``[F, H, W, 3]``; None if unknown.
        files: files of the frames; empty for generated clips.
    """

    record: Mapping[str, Any]
    rgb: UInt8Array
    depth: FloatArray | None = None
    whole_rgb: UInt8Array | None = None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class EncodedSample:
    """A sample as consecutive tar members.

    Attributes:
        head: record and depth.
        frames: all other members.
    """

    head: bytes
    frames: bytes

    def __len__(self) -> int:
        """Number of bytes."""
        return len(self.head) + len(self.frames)


def encode_sample(sample: ShardSample, number: int) -> EncodedSample:
    """Encode a sample without loss.

    Args:
        sample: of any size.
        number: of the sample in its data set, from 0.
    """
    key = f"{number:08d}"
    record = json.dumps(sample.record, separators=(",", ":")).encode()
    head = [("json", record), *([] if sample.depth is None else _encode_depth(sample.depth))]
    frames = list(_encode_frames(sample.rgb, sample.files))
    if sample.whole_rgb is not None:
        frames += [(f"whole.{place:03d}.png", _png(frame)) for place, frame in enumerate(sample.whole_rgb)]
    return EncodedSample(*(b"".join(_member(f"{key}.{what}", data) for what, data in part) for part in (head, frames)))


def _member(name: str, data: bytes) -> bytes:
    """A tar member that depends on nothing but its name and content."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK)


def _encode_frames(rgb: UInt8Array, files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Each frame's own file, which is often a tenth as large as a PNG, if it decodes to the frame; else a PNG."""
    for place, frame in enumerate(rgb):
        kind = _KEPT.get(files[place].suffix.lower()) if files else None
        if kind is not None:
            content = files[place].read_bytes()
            if _decodes_to(content, kind, frame):
                yield f"frame.{place:03d}.{kind}", content
                continue
        yield f"frame.{place:03d}.png", _png(frame)


def _decodes_to(content: bytes, kind: str, frame: UInt8Array) -> bool:
    try:
        return np.array_equal(_decode_rgb(content, kind, (frame.shape[0], frame.shape[1])), frame)
    except (OSError, ValueError):  # a file of another format than its ending says, or with more than 8 bits
        return False


def _encode_depth(depth: FloatArray) -> Iterator[tuple[str, bytes]]:
    """Depth in the smallest form that gives the same bits: 16-bit PNG, else float16, else float32."""
    with np.errstate(invalid="ignore", over="ignore"):
        levels, half = depth.astype(np.uint16), depth.astype(np.float16)
    if _same_bits(levels, depth):
        for place, frame in enumerate(levels):
            yield f"depth.{place:03d}.png", _png(frame)
        return
    buffer = BytesIO()
    np.save(buffer, half if _same_bits(half, depth) else depth, allow_pickle=False)
    yield "depth.npy", buffer.getvalue()


def _same_bits(stored: npt.NDArray[Any], depth: FloatArray) -> bool:
    return stored.astype(np.float32).tobytes() == depth.tobytes()


def _png(pixels: npt.NDArray[Any]) -> bytes:
    """PNG of uint8 ``[H, W, 3]`` or uint16 ``[H, W]``."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def read_members(data: bytes, number: int) -> Members:
    """Split consecutive tar members of one sample.

    Args:
        data: whole members, as :func:`encode_sample` writes them.
        number: of the sample, which its members' names begin with.

    Raises:
        ValueError: if a member is no plain file, has another name than a sample's members have, or is cut off.
    """
    members: dict[str, bytes] = {}
    start = 0
    while start < len(data):
        try:
            info = tarfile.TarInfo.frombuf(data[start : start + BLOCK], "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise ValueError(f"expected a tar member at byte {start}, got something else ({error})") from error
        found = _MEMBER.fullmatch(info.name)
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.linkname or found is None:
            raise ValueError(f"{info.name!r}: expected a plain member of a sample, such as {number:08d}.frame.000.png")
        if int(found["key"]) != number or found["what"] in members:
            raise ValueError(f"{info.name!r}: expected each member of sample {number:08d} once")
        start += BLOCK
        if info.size < 0 or start + info.size > len(data):
            raise ValueError(f"{info.name!r}: cut off")
        members[found["what"]] = data[start : start + info.size]
        start += info.size + -info.size % BLOCK
    return members


def decode_record(members: Members) -> Any:  # noqa: ANN401 - what JSON has
    """The sample's record, not yet checked.

    Raises:
        ValueError: if it is missing or no JSON.
    """
    return json.loads(_content(members, "json"))


def decode_frames(members: Members, what: str, shape: tuple[int, int, int]) -> UInt8Array:
    """Decode the first frames of a sample.

    Args:
        members: of the sample.
        what: ``frame`` or ``whole``.
        shape: F, H and W.

    Returns:
        uint8 ``[F, H, W, 3]``.

    Raises:
        ValueError: if one is missing, damaged or of another size.
    """
    return np.stack([decode_frame(members, what, place, shape[1:]) for place in range(shape[0])])


def decode_frame(members: Members, what: str, place: int, size: tuple[int, int]) -> UInt8Array:
    """Decode one frame of H and W pixels, uint8 ``[H, W, 3]``; errors as for :func:`decode_frames`."""
    name = f"{what}.{place:03d}"
    kind = next((kind for kind in _FORMATS if f"{name}.{kind}" in members), "png")
    try:
        return _decode_rgb(_content(members, f"{name}.{kind}"), kind, size)
    except OSError as error:
        raise ValueError(f"{name}.{kind}: {error}") from error


def decode_depth(members: Members, shape: tuple[int, int, int]) -> FloatArray | None:
    """Decode the depth of the first F frames of H and W pixels, float32 ``[F, H, W]``; None without.

    Raises:
        ValueError: if it is damaged or of another size.
    """
    if "depth.npy" in members:
        return _decode_array(members["depth.npy"], shape)
    if not any(name.startswith("depth.") for name in members):
        return None
    frames = []
    for place in range(shape[0]):
        name = f"depth.{place:03d}.png"
        try:
            with open_content(_content(members, name), "PNG", shape[1:]) as picture:
                levels = np.asarray(picture)
        except OSError as error:
            raise ValueError(f"{name}: {error}") from error
        if levels.dtype.kind not in "iu" or levels.ndim != 2:
            raise ValueError(f"{name}: expected 16-bit gray, got {picture.mode}")
        frames.append(levels.astype(np.float32))
    return np.stack(frames)


def _decode_array(content: bytes, shape: tuple[int, int, int]) -> FloatArray:
    """The first frames of a NumPy file; its header is checked before any array is made."""
    file = BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("depth.npy: expected a NumPy file of version 1.0")
    stored, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    data = content[file.tell() :]
    frames, size = shape[0], shape[1:]
    if dtype not in (np.float16, np.float32) or by_columns or len(stored) != 3 or stored[1:] != size:
        raise ValueError(f"depth.npy: expected float16 or float32 [F, H, W] of {size}, got {dtype} {list(stored)}")
    if stored[0] < frames or len(data) != int(np.prod(stored)) * dtype.itemsize:
        raise ValueError(f"depth.npy: expected {frames} frames, got {stored[0]} in {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(stored)[:frames].astype(np.float32)


def _content(members: Members, name: str) -> bytes:
    if name not in members:
        raise ValueError(f"{name}: missing")
    return members[name]


def _decode_rgb(content: bytes, kind: str, size: tuple[int, int]) -> UInt8Array:
    with open_content(content, _FORMATS[kind], size) as picture:
        return np.array(picture.convert("RGB"), dtype=np.uint8)
