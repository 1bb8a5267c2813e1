"""What a benchmark is: tracks with their truth, each with an identity that its random seeds come from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from amodal_diffusion.data.sailvos import frame_file, read_frame
from amodal_diffusion.io.images import read_integers
from amodal_diffusion.metrics.boxes import Boxes
from amodal_diffusion.types import BoolArray, FloatArray, InputError, UInt8Array, VideoClip


@dataclass(frozen=True, kw_only=True)
class BenchmarkTrack:
    """One object through one clip; `MaskTrack` and `BoxTrack` have the truth about it.

    Attributes:
        identity: unique within the benchmark and the same in every run.
        clip: the frames and the object's modal mask.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where the benchmark has none.
    """

    identity: str
    clip: VideoClip
    depth: FloatArray | None = None

    def seed(self, sample: int = 0) -> int:
        """Seed in [0, 2^32) from the identity, so that neither order nor company changes a prediction.

        Args:
            sample: which of several predictions of the track, from 0.
        """
        name = self.identity if sample == 0 else f"{self.identity}#{sample}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


@dataclass(frozen=True, kw_only=True)
class MaskTrack(BenchmarkTrack):
    """A track whose whole object is known.

    Attributes:
        amodal_mask: the whole object, bool ``[F, H, W]``.
        whole_rgb: the whole object on white, uint8 ``[F, H, W, 3]``; None where the benchmark has none.
    """

    amodal_mask: BoolArray
    whole_rgb: UInt8Array | None = None


@dataclass(frozen=True, kw_only=True)
class BoxTrack(BenchmarkTrack):
    """A track of which only the whole object's box is known.

    Attributes:
        amodal_boxes: x, y, width, height in pixels of the clip's frames, float64 ``[F, 4]``.
        margins: rows above and below, columns left and right, that were put around the frames.
    """

    amodal_boxes: Boxes
    margins: tuple[int, int] = (0, 0)


class Benchmark(Protocol):
    """A named, ordered list of tracks, made or read one at a time."""

    @property
    def name(self) -> str:
        """Name that the report gives, with the split where there is one."""

    @property
    def inputs(self) -> Mapping[str, Path]:
        """Files and folders that its tracks come from, by what they are; nothing where they are made."""

    def __len__(self) -> int:
        """Number of tracks."""

    def identity(self, index: int) -> str:
        """A track's identity, without reading its frames."""

    def track(self, index: int) -> BenchmarkTrack:
        """Make or read a track.

        Raises:
            InputError: if it cannot be read.
        """


@dataclass(frozen=True)
class FileBenchmark:
    """Tracks of files, see `Benchmark`.

    Attributes:
        name: see `Benchmark`.
        inputs: see `Benchmark`; ``data`` is one of them.
        identities: of the tracks, in order.
        read: reads a track by its place in the order, from 0, under its identity.

    Raises:
        InputError: if there is no track, or two have one identity.
    """

    name: str
    inputs: Mapping[str, Path]
    identities: Sequence[str] = field(repr=False)
    read: Callable[[int, str], BenchmarkTrack] = field(repr=False)

    def __post_init__(self) -> None:
        """Check the list of tracks."""
        if not self.identities:
            raise InputError(
                f"{self.inputs['data']}: expected at least one visible object with its whole mask, got none"
            )
        identity, count = Counter(self.identities).most_common(1)[0]
        if count > 1:
            raise InputError(f"{self.inputs['data']}: expected each track once, got {identity} {count} times")

    def __len__(self) -> int:
        """See `Benchmark`."""
        return len(self.identities)

    def identity(self, index: int) -> str:
        """See `Benchmark`."""
        return self.identities[index]

    def track(self, index: int) -> BenchmarkTrack:
        """See `Benchmark`.

        Raises:
            InputError: if anything of it cannot be read or does not belong together; names the file.
        """
        return self.read(index, self.identities[index])


@dataclass(frozen=True)
class FrameFolders:
    """Where the pictures of frames lie that an annotation file names.

    Attributes:
        images: root of the frames.
        depth: root of one-channel pictures of 8 or 16 bits, nearer is larger, each under the path of its frame; None
            where there are none.
    """

    images: Path
    depth: Path | None = None

    def read_rgb(self, names: Sequence[str], size: tuple[int, int]) -> UInt8Array:
        """Read frames, uint8 ``[F, H, W, 3]``.

        Args:
            names: paths below the root; a file may have another picture ending.
            size: H and W of the masks.

        Raises:
            InputError: if one is missing, cannot be read or is of another size.
        """
        return np.stack([read_frame(frame_file(self.images, name), size) for name in names])

    def read_depth(self, names: Sequence[str], size: tuple[int, int]) -> FloatArray | None:
        """Read depth, float32 ``[F, H, W]``; None where there is none; arguments and errors as for `read_rgb`."""
        if self.depth is None:
            return None
        return np.stack([_read_depth(frame_file(self.depth, name), size) for name in names])


def _read_depth(path: Path, size: tuple[int, int]) -> FloatArray:
    values = read_integers(path).values
    if values.shape != size:
        raise InputError(
            f"{path}: depth of {values.shape[1]}x{values.shape[0]} pixels for masks of {size[1]}x{size[0]}"
        )
    return values.astype(np.float32)


def read_json(path: Path) -> Any:  # noqa: ANN401 - what JSON has
    """Read a small JSON file.

    Raises:
        InputError: if it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: expected JSON in UTF-8, got something else ({error})") from error


def given_inputs(**paths: Path | None) -> dict[str, Path]:
    """The files and folders that a user named, by argument."""
    return {name: path for name, path in paths.items() if path is not None}
