"""Writes shards: tar files one after the other, each with the lines of its samples, and the manifest at the end."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, Self

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.data.shard_members import EncodedSample, ShardSample, encode_sample
from amodal_diffusion.data.shards import MANIFEST, ShardEntry, ShardHeader, SourceKind
from amodal_diffusion.io.atomic import PARTIAL
from amodal_diffusion.io.retries import MissingError
from amodal_diffusion.io.storage import join, read_bytes, remove, upload, write_bytes
from amodal_diffusion.io.transfers import list_files
from amodal_diffusion.io.urls import local_path, public_name

STATE = "writing.json"
"""What unfinished shards are written from; the same command goes on."""
_OWN = re.compile(rf"(\d{{5,8}}\.(tar|jsonl)|manifest\.jsonl|writing\.json)(\.[0-9a-f]{{32}}{re.escape(PARTIAL)})?")
_END = bytes(2 * tarfile.BLOCKSIZE)

logger = logging.getLogger(__name__)


class ShardSource(Protocol):
    """A data set that can be written as shards.

    Attributes:
        kind: see `ShardHeader`.
        as_tracks: see `ShardHeader`.
    """

    kind: SourceKind
    as_tracks: bool

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def name(self, index: int) -> str:
        """Name of a sample in messages, without reading it."""
        ...

    def read(self, index: int) -> ShardSample:
        """Read a sample."""
        ...


@dataclass(frozen=True)
class WritingOptions:
    """How shards are written.

    Attributes:
        shard_bytes: a tar file is closed before a sample that would make it larger than this.
        workers: number of processes that encode samples; 0 encodes in this one.
        overwrite: replace shards that are there.
        on_bad_sample: ``stop`` with an error that names a sample that cannot be read, or ``skip`` it with a warning.
        quiet: show no progress bar.
    """

    shard_bytes: int = 256 << 20
    workers: int = 0
    overwrite: bool = False
    on_bad_sample: Literal["stop", "skip"] = "stop"
    quiet: bool = False


@dataclass(frozen=True)
class _Packed:
    """A sample ready to be written, or why it cannot be read."""

    number: int
    encoded: EncodedSample
    depth: bool
    whole: bool
    frames: int
    error: str = ""


class _Encoding(Dataset[_Packed]):
    """Samples of a source, encoded where they are read."""

    def __init__(self, source: ShardSource) -> None:
        self.source = source

    def __getitem__(self, number: int) -> _Packed:
        try:
            sample = self.source.read(number)
            encoded = encode_sample(sample, number)
        except (InputError, OSError) as error:
            name = self.source.name(number)
            reason = one_line(error).removeprefix(f"{name}: ")
            return _Packed(number, EncodedSample(b"", b""), False, False, 0, f"{name}: {reason}")
        return _Packed(number, encoded, sample.depth is not None, sample.whole_rgb is not None, len(sample.rgb))


@dataclass(frozen=True)
class _Part:
    """A finished tar file: what its samples have in common, and their lines of the manifest."""

    depth: bool
    whole: bool
    shortest: int
    lines: tuple[bytes, ...]

    @property
    def after(self) -> int:
        """Number of the sample that comes after it."""
        return int(json.loads(self.lines[-1])["number"]) + 1

    def dump(self) -> bytes:
        """As JSON lines."""
        values = {"depth": self.depth, "whole": self.whole, "shortest": self.shortest}
        return b"\n".join([json.dumps(values).encode(), *self.lines])

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From JSON lines."""
        first, *lines = data.splitlines()
        return cls(**json.loads(first), lines=tuple(lines))


def write_shards(source: ShardSource, out: str, identity: Mapping[str, Any], options: WritingOptions) -> ShardHeader:
    """Write a data set as shards; a call with the same identity goes on after the last finished tar file.

    Args:
        source: the samples.
        out: folder or URL.
        identity: JSON of all that the shards follow from.
        options: how they are written; the number of processes changes no byte.

    Returns:
        what was written.

    Raises:
        InputError: if ``out`` holds finished shards, other shards or other files, or a sample cannot be read.
    """
    # 1. What is there: nothing, or the tar files of an interrupted call.
    parts = _begin(out, identity, overwrite=options.overwrite)
    first = parts[-1].after if parts else 0
    if parts:
        logger.info("%s: going on at sample %d, after %d tar files", public_name(out), first, len(parts))

    # 2. The rest of the samples, a tar file at a time. Each is uploaded before the lines that vouch for it.
    rest = range(first, len(source))
    loader = DataLoader(_Encoding(source), batch_size=None, sampler=rest, num_workers=options.workers)
    bar = tqdm(loader, desc="samples", unit="sample", initial=first, total=len(source), disable=options.quiet)
    with closing(bar), tempfile.TemporaryDirectory() as work:
        samples = _readable(bar, options)
        following = next(samples, None)
        while following is not None:
            file, name = Path(work) / "shard.tar", f"{len(parts):05d}.tar"
            with file.open("wb") as tar:
                part, following = _write_tar(tar, name, following, samples, options.shard_bytes)
            upload(file, join(out, name))
            write_bytes(join(out, _lines_of(len(parts))), part.dump())
            parts.append(part)

        # 3. The manifest: only with it are the shards finished.
        if not parts:
            raise InputError(f"{public_name(out)}: not one of {len(source)} samples can be read")
        header = ShardHeader(
            source=source.kind,
            samples=sum(len(part.lines) for part in parts),
            tars=len(parts),
            depth=any(part.depth for part in parts),
            whole=all(part.whole for part in parts),
            shortest=min(part.shortest for part in parts),
            as_tracks=source.as_tracks,
        )
        manifest = Path(work) / MANIFEST
        with manifest.open("wb") as written:
            written.write(header.line())
            written.writelines(line + b"\n" for part in parts for line in part.lines)
        upload(manifest, join(out, MANIFEST))
    for name in (STATE, *map(_lines_of, range(len(parts)))):
        remove(join(out, name))
    return header


def _begin(out: str, identity: Mapping[str, Any], *, overwrite: bool) -> list[_Part]:
    """Check what a folder or URL holds, and claim it; return what an interrupted call has finished.

    Raises:
        InputError: if it holds finished shards, other shards or other files.
    """
    where, names = public_name(out), _names_in(out)
    foreign = sorted(name for name in names if not _OWN.fullmatch(name))
    if foreign:
        raise InputError(f"{where}: holds other files than shards, such as {foreign[0]}; give another --out")
    if overwrite:
        for name in [*({MANIFEST} & names), *sorted(names - {MANIFEST}, reverse=True)]:  # readers see the end at once
            remove(join(out, name))
        names = set()
    for name in sorted(names):
        if name.endswith(PARTIAL):  # of a call that was killed while it copied a file
            remove(join(out, name))
    if MANIFEST in names:
        raise InputError(f"{where}: holds finished shards; give another --out, or --overwrite to write them anew")
    if STATE in names:
        if read_bytes(join(out, STATE)) == _dump_state(identity):
            return list(_finished_parts(out, names))
        raise InputError(
            f"{where}: holds unfinished shards of another source or other options; give another --out, or --overwrite "
            "to write over them"
        )
    write_bytes(join(out, STATE), _dump_state(identity))
    return []


def _names_in(out: str) -> set[str]:
    """Names of all files below a folder or URL; none if it does not exist."""
    folder = local_path(out)
    if folder is not None:
        if folder.is_file():
            raise InputError(f"{folder}: expected a folder, got a file; give another --out")
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    try:
        return {file.name for file in list_files(out)}
    except MissingError:
        return set()


def _dump_state(identity: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(identity), indent=1, sort_keys=True).encode()


def _lines_of(number: int) -> str:
    return f"{number:05d}.jsonl"


def _finished_parts(out: str, names: set[str]) -> Iterator[_Part]:
    """The finished tar files, in order."""
    for number in itertools.count():
        if _lines_of(number) not in names:
            return
        yield _Part.parse(read_bytes(join(out, _lines_of(number))))


def _readable(loader: Iterable[_Packed], options: WritingOptions) -> Iterator[_Packed]:
    """Samples without those that cannot be read.

    Raises:
        InputError: at the first of these with ``on_bad_sample: stop``.
    """
    for packed in loader:
        if not packed.error:
            yield packed
        elif options.on_bad_sample == "stop":
            raise InputError(f"{packed.error}; repair it, or give --on-bad-sample skip to leave it out")
        else:
            logger.warning("%s; left out", packed.error)


def _write_tar(
    tar: BinaryIO, name: str, first: _Packed, samples: Iterator[_Packed], most: int
) -> tuple[_Part, _Packed | None]:
    """Write a tar file with one sample or more; return what it holds, and the sample that found no room."""
    part, packed = _Part(first.depth, first.whole, first.frames, ()), first
    lines = []
    while True:
        lines.append(_write_sample(tar, name, packed))
        part = replace(
            part,
            depth=part.depth or packed.depth,
            whole=part.whole and packed.whole,
            shortest=min(part.shortest, packed.frames),
        )
        following = next(samples, None)
        if following is None or tar.tell() + len(following.encoded) + len(_END) > most:
            tar.write(_END)
            return replace(part, lines=tuple(lines)), following
        packed = following


def _write_sample(tar: BinaryIO, name: str, packed: _Packed) -> bytes:
    """Append a sample to a tar file; return its line of the manifest."""
    head, frames = packed.encoded.head, packed.encoded.frames
    digest = hashlib.sha256(head)
    head_sha256 = digest.hexdigest()
    digest.update(frames)
    entry = ShardEntry(
        packed.number, name, tar.tell(), len(head) + len(frames), digest.hexdigest(), len(head), head_sha256
    )
    tar.write(head)
    tar.write(frames)
    return json.dumps(asdict(entry), separators=(",", ":")).encode()
