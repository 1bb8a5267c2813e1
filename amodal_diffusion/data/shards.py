"""Training data in shards: the manifest of all samples, and datasets that read a sample by one range of a tar file.

The format is WebDataset's; docs/data.md describes it. Nothing of a shard is run or unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Literal, get_args

import numpy as np
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.records import parse_record
from amodal_diffusion.data.sailvos import Track
from amodal_diffusion.data.samples import AmodalSample, PackedFrame
from amodal_diffusion.data.shard_members import Members, decode_depth, decode_frame, decode_frames, decode_record
from amodal_diffusion.data.shard_members import read_members as split_members
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.io.storage import join, read_bytes, read_range
from amodal_diffusion.io.urls import public_name
from amodal_diffusion.types import BoolArray, UInt8Array

MANIFEST = "manifest.jsonl"
FORMAT, VERSION = "amodal-diffusion shards", 1
HEADER_BYTES = 1024
"""The header is padded to this, so that one small read says what the shards hold."""
SourceKind = Literal["tracks", "images", "generated", "tao-amodal"]
_TAR = re.compile(r"\d{5,8}\.tar")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1 << 31  # bytes of a sample


@dataclass(frozen=True)
class ShardHeader:
    """First line of a manifest: what all samples have in common.

    Attributes:
        source: ``tracks`` of an annotation file, objects in ``images``, ``generated`` clips with depth and whole
            objects, or tracks of ``tao-amodal``, which have boxes in place of amodal masks.
        samples: number of samples.
        tars: number of tar files.
        depth: whether any sample has depth.
        whole: whether all samples have the colors of whole objects.
        shortest: number of frames of the shortest sample.
        as_tracks: whether a run on the source resizes frames as runs on annotation files do.
    """

    source: SourceKind
    samples: int
    tars: int
    depth: bool
    whole: bool
    shortest: int
    as_tracks: bool

    def line(self) -> bytes:
        """The line as it is written, `HEADER_BYTES` long."""
        return (
            json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}).encode().ljust(HEADER_BYTES - 1) + b"\n"
        )


@dataclass(frozen=True)
class ShardEntry:
    """Line of a manifest: where a sample is.

    Attributes:
        number: of the sample in its data set; its members are named by it.
        tar: name of the tar file.
        offset: of the sample's first member in bytes.
        length: of all its members in bytes.
        sha256: of all its members.
        head: length of the first members, which hold record and depth.
        head_sha256: of these.
    """

    number: int
    tar: str
    offset: int
    length: int
    sha256: str
    head: int
    head_sha256: str


def read_header(location: str) -> ShardHeader:
    """Read what shards hold.

    Args:
        location: their folder or URL.

    Raises:
        InputError: if there is no manifest, or one of another format.
    """
    manifest = join(location, MANIFEST)
    try:
        line = read_range(manifest, 0, HEADER_BYTES)
    except InputError as error:
        raise InputError(
            f"{error}; expected the folder or URL of finished shards, as `amodal-diffusion shards` writes them"
        ) from error
    return _parse_header(line, public_name(manifest))


def _parse_header(line: bytes, where: str) -> ShardHeader:
    try:
        values = json.loads(line)
        given = (values.pop("format"), values.pop("version"))
        header = ShardHeader(**values)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{where}: expected a manifest of shards, got something else") from error
    if given != (FORMAT, VERSION):
        raise InputError(
            f"{where}: expected {FORMAT}, version {VERSION}, got {given[0]!r:.40}, version {given[1]!r:.9}"
        )
    numbers = (header.samples, header.tars, header.shortest)
    if header.source not in get_args(SourceKind) or not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise InputError(f"{where}: expected a source and numbers of at least 1, got {values!r:.200}")
    return header


class Shards:
    """Random access to the samples of a manifest, each by one range read, checked by its SHA-256.

    The manifest takes 100 bytes of memory a sample.

    Args:
        location: folder or URL of the shards.

    Attributes:
        location: without user name and query, for messages.
        header: what the samples have in common.

    Raises:
        InputError: if there is no manifest, or it is damaged.
    """

    def __init__(self, location: str) -> None:
        manifest = join(location, MANIFEST)
        self.location = public_name(location)
        self._given = location
        self.header = read_header(location)
        data = read_bytes(manifest)
        where, count = public_name(manifest), data.count(b"\n") - 1
        if count != self.header.samples or not data.endswith(b"\n"):
            raise InputError(f"{where}: expected {self.header.samples} samples, got {count}; it is cut off")
        self._places = np.empty((count, 5), np.int64)  # number, tar, offset, length, head
        self._digests = np.empty((count, 2, 32), np.uint8)
        tars: dict[str, int] = {}
        for index, line in enumerate(islice(BytesIO(data), 1, None)):
            entry = _parse_entry(line, f"{where}: line {index + 2}")
            tar = tars.setdefault(entry.tar, len(tars))
            self._places[index] = entry.number, tar, entry.offset, entry.length, entry.head
            for place, digest in enumerate((entry.sha256, entry.head_sha256)):
                self._digests[index, place] = np.frombuffer(bytes.fromhex(digest), np.uint8)
        self._tars = list(tars)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._places)

    def name(self, index: int) -> str:
        """Tar file and number of a sample, which is not read."""
        number, tar = self._places[index, :2]
        return f"{self.location}/{self._tars[tar]}: sample {number:08d}"

    def digest(self, index: int) -> str:
        """SHA-256 of a sample."""
        return self._digests[index, 0].tobytes().hex()

    def size(self, index: int) -> int:
        """Bytes of a sample."""
        return int(self._places[index, 3])

    def members(self, index: int, *, head: bool = False) -> Members:
        """Read a sample.

        Args:
            index: place in the manifest, from 0.
            head: read record and depth alone.

        Raises:
            InputError: if it cannot be read, or differs from its SHA-256.
            ValueError: if it has other members than a sample has.
        """
        number, tar, offset, length, head_length = map(int, self._places[index])
        data = read_range(join(self._given, self._tars[tar]), offset, head_length if head else length)
        if hashlib.sha256(data).digest() != self._digests[index, int(head)].tobytes():
            raise InputError("damaged: its bytes differ from the SHA-256 in the manifest")
        return split_members(data, number)


def _parse_entry(line: bytes, where: str) -> ShardEntry:
    try:
        entry = ShardEntry(**json.loads(line))
        sizes = (
            entry.number,
            entry.offset,
            entry.length - 1,
            _LARGEST - entry.length,
            entry.head,
            entry.length - entry.head,
        )
        sound = all(type(size) is int and size >= 0 for size in sizes)
        sound = sound and bool(_TAR.fullmatch(entry.tar))
        sound = sound and bool(_DIGEST.fullmatch(entry.sha256) and _DIGEST.fullmatch(entry.head_sha256))
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: expected tar, offset, length and digests of a sample, got {line!r:.60}") from error
    if not sound:
        raise InputError(f"{where}: expected tar, offset, length and digests of a sample, got {line!r:.200}")
    return entry


@dataclass(frozen=True)
class PackedTrack(Track):
    """A track of a shard.

    Attributes:
        members: of its sample; the head alone where no frame is wanted.
        index: of the sample.
    """

    members: Members
    index: int


class ShardDataset(Dataset[AmodalSample]):
    """The samples of shards, with the values that the data set has that they were written from.

    Args:
        location: folder or URL of the shards.
        frames: F; longer samples are cut to their first F frames.
        with_rgb: whether to read frames; otherwise a read takes record and depth alone.
        limit: number of samples to use, from the first; all by default.

    Raises:
        InputError: if the shards cannot be used, or have no amodal masks.
    """

    def __init__(self, location: str, *, frames: int, with_rgb: bool, limit: int | None = None) -> None:
        self.shards = Shards(location)
        self.frames = frames
        self.with_rgb = with_rgb
        self._length = len(self.shards) if limit is None else min(limit, len(self.shards))
        if self.shards.header.source == "tao-amodal":
            raise InputError(
                f"{self.source}: shards of TAO-Amodal have boxes of whole objects; training needs their amodal masks"
            )

    def __len__(self) -> int:
        """Number of samples."""
        return self._length

    @property
    def source(self) -> str:
        """Folder or URL, for messages."""
        return self.shards.location

    @property
    def available(self) -> int:
        """Number of samples without the limit."""
        return len(self.shards)

    def name(self, index: int) -> str:
        """Name of a sample in messages, without reading it."""
        return self.shards.name(index)

    def __getitem__(self, index: int) -> AmodalSample:
        """Read a sample.

        Raises:
            IndexError: if there is no such sample.
            InputError: if it is damaged; the message names it.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"index: expected 0 to {self._length - 1}, got {index}")
        track = self.load(index)
        return self.sample(track, modal=track.modal, amodal=track.amodal)

    def load(self, index: int) -> PackedTrack:
        """Read a sample and decode its masks, not its frames.

        Raises:
            InputError: if it is damaged.
        """
        name = self.name(index)
        with _named(name):
            members = self.shards.members(index, head=not self.with_rgb)
            record = parse_record(decode_record(members), where="record").first(self.frames)
            modal = record.modal_masks()
            return PackedTrack(name, record, modal, record.amodal_masks() | modal, members, index)

    def sample(
        self, track: Track, *, modal: BoolArray, amodal: BoolArray, whole_is_visible: bool = False
    ) -> AmodalSample:
        """Make a sample from a track and given masks, as `SailVosDataset.sample` does."""
        if not isinstance(track, PackedTrack):
            raise TypeError(f"track: expected one of these shards, got {type(track).__name__}")
        with _named(track.name):
            shape = (len(modal), *track.record.size)
            rgb = whole = None
            if self.with_rgb:
                rgb = decode_frames(track.members, "frame", shape)
                if whole_is_visible:
                    whole = cut_out_on_white(rgb, amodal)
                elif "whole.000.png" in track.members:
                    whole = decode_frames(track.members, "whole", shape)
            depth = decode_depth(track.members, shape)
            return AmodalSample(track.name, modal, amodal, depth, rgb, whole, files=self._files(track))

    def _files(self, track: PackedTrack) -> tuple[PackedFrame, ...]:
        """The frames of a sample, to read when needed; generated clips have none, as without shards."""
        if self.shards.header.source == "generated":
            return ()
        opened = _OpenedSample(self.shards, track.index, track.members if self.with_rgb else None)
        digest = self.shards.digest(track.index)
        return tuple(
            PackedFrame(
                f"{track.name}: frame {place}",
                f"{digest} {place}".encode(),
                partial(opened.frame, place, track.record.size),
            )
            for place in range(track.record.num_frames)
        )


class _OpenedSample:
    """All members of a sample, read once when the first frame is wanted."""

    def __init__(self, shards: Shards, index: int, members: Members | None) -> None:
        self._shards, self._index, self._members = shards, index, members

    def frame(self, place: int, size: tuple[int, int]) -> UInt8Array:
        with _named(self._shards.name(self._index)):
            if self._members is None:
                self._members = self._shards.members(self._index)
            return decode_frame(self._members, "frame", place, size)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn the errors of reading a sample into input errors that name it."""
    try:
        yield
    except (ValueError, OSError, SyntaxError) as error:  # SyntaxError is Pillow's for a broken PNG
        raise InputError(f"{name}: {error}") from error
