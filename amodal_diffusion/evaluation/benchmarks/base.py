"""What a benchmark is: an ordered list of targets, that is, tracks of objects with their ground truth."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import Resample
from amodal_diffusion.data.sailvos import frame_file, read_depth_picture
from amodal_diffusion.io.json_files import load_json
from amodal_diffusion.io.pictures import read_frames
from amodal_diffusion.metrics.boxes import Boxes
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array, VideoClip

if TYPE_CHECKING:
    from amodal_diffusion.models.depth import DepthEstimator


@dataclass(frozen=True, kw_only=True)
class Target:
    """The track of one object through one clip; `MaskTarget` and `BoxTarget` add its ground truth.

    Attributes:
        identity: unique within the benchmark and the same in every run; random seeds come from it.
        clip: frames and the object's modal mask.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where the benchmark has none.
    """

    identity: str
    clip: VideoClip
    depth: FloatArray | None = None

    def seed(self, sample: int = 0) -> int:
        """Seed in [0, 2^32) from the identity, so that no other track and no order changes a prediction.

        Args:
            sample: number of the prediction, from 0, where a method predicts the track several times.
        """
        name = self.identity if sample == 0 else f"{self.identity}#{sample}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


@dataclass(frozen=True, kw_only=True)
class MaskTarget(Target):
    """A track whose amodal masks are known.

    Attributes:
        amodal_mask: bool ``[F, H, W]``.
        amodal_rgb: the whole object on white, uint8 ``[F, H, W, 3]``; None where the benchmark has none.
    """

    amodal_mask: BoolArray
    amodal_rgb: UInt8Array | None = None


@dataclass(frozen=True, kw_only=True)
class BoxTarget(Target):
    """A track of which only the amodal boxes are known.

    Attributes:
        amodal_boxes: x, y, width, height in pixels of the clip's frames, float64 ``[F, 4]``.
        margins: rows added above and below the frames, and columns added left and right.
    """

    amodal_boxes: Boxes
    margins: tuple[int, int] = (0, 0)


class Benchmark(Protocol):
    """A named, ordered list of targets, generated or read one at a time."""

    @property
    def name(self) -> str:
        """Name that the report gives, with the split where there is one."""

    @property
    def inputs(self) -> Mapping[str, Path]:
        """Files and folders that the tracks are read from, by argument; empty where they are generated."""

    def __len__(self) -> int:
        """Number of tracks."""

    def identity(self, index: int) -> str:
        """Identity of a track; does not read its frames."""

    def track(self, index: int) -> Target:
        """Generate or read a track.

        Raises:
            InputError: if it cannot be read.
        """


@dataclass(frozen=True)
class ReferenceProtocol:
    """What the published evaluation of a benchmark does, beyond the paper's inference.

    `resample` holds for every model, the rest for models with released conditioning.

    Attributes:
        resample: how frames and masks are resized; as the model says when None.
        fps: frame rate that the network is told, before released conditioning takes one off; the model's when None.
        depth_bits: bits that depth in 0..1 is rounded to; as it is when None.
        cut_resized: whether scores are scaled to the frame before the threshold, not masks after it.
    """

    resample: Resample | None = None
    fps: int | None = None
    depth_bits: int | None = None
    cut_resized: bool = False


PredictionEntries = Callable[[int, BoolArray], dict[str, Any]]
"""Entries of the published prediction file, by key, for a track by its index and its masks, bool ``[F, H, W]``."""


@dataclass(frozen=True)
class FileBenchmark:
    """A benchmark whose tracks are read from files, see `Benchmark`.

    Attributes:
        name: see `Benchmark`.
        inputs: see `Benchmark`; ``data`` is one of them.
        identities: one per track, in order.
        read: reads the track at an index, from 0, and gives it the identity.
        predictions: puts a track's masks into the published prediction file; None where there is no such file.

    Raises:
        InputError: if there is no track, or two have one identity.
    """

    name: str
    inputs: Mapping[str, Path]
    identities: Sequence[str] = field(repr=False)
    read: Callable[[int, str], Target] = field(repr=False)
    predictions: PredictionEntries | None = field(default=None, repr=False)

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

    def track(self, index: int) -> Target:
        """See `Benchmark`.

        Raises:
            InputError: if anything of it cannot be read or does not belong together; names the file.
        """
        return self.read(index, self.identities[index])


@dataclass(frozen=True)
class WithEstimatedDepth:
    """A benchmark whose tracks without depth get it from a depth network, see `Benchmark`.

    Attributes:
        benchmark: gives the tracks; depth that it has is left as it is.
        estimator: estimates missing depth frame by frame, at the size of the frames.
    """

    benchmark: Benchmark
    estimator: DepthEstimator = field(repr=False)

    @property
    def name(self) -> str:
        """See `Benchmark`."""
        return self.benchmark.name

    @property
    def inputs(self) -> Mapping[str, Path]:
        """See `Benchmark`."""
        return self.benchmark.inputs

    def __len__(self) -> int:
        """See `Benchmark`."""
        return len(self.benchmark)

    def identity(self, index: int) -> str:
        """See `Benchmark`."""
        return self.benchmark.identity(index)

    def track(self, index: int) -> Target:
        """See `Benchmark`."""
        track = self.benchmark.track(index)
        if track.depth is not None:
            return track
        margins = track.margins if isinstance(track, BoxTarget) else (0, 0)
        down, right = margins
        height, width = track.clip.rgb.shape[1:3]
        depth = self.estimator(track.clip.rgb[:, down : height - down, right : width - right])
        return replace(track, depth=pad_depth(depth, margins) if any(margins) else depth)


def prediction_entries(benchmark: Benchmark) -> PredictionEntries | None:
    """What puts masks into a benchmark's published prediction file; None where there is no such file."""
    benchmark = without_estimated_depth(benchmark)
    return benchmark.predictions if isinstance(benchmark, FileBenchmark) else None


def without_estimated_depth(benchmark: Benchmark) -> Benchmark:
    """The benchmark as it is read, for a use that needs no depth."""
    return benchmark.benchmark if isinstance(benchmark, WithEstimatedDepth) else benchmark


def pad_depth(depth: FloatArray, margins: tuple[int, int]) -> FloatArray:
    """Scale depth to 0 to 1 over the clip and surround it by 1, the nearest.

    Args:
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; constant depth becomes 0.
        margins: rows to add above and below, columns to add left and right.

    Returns:
        float32 ``[F, H + 2 rows, W + 2 columns]``.
    """
    low, high = depth.min(), depth.max()
    unit = (depth - low) / (high - low if high > low else np.float32(1))
    sides = ((0, 0), (margins[0], margins[0]), (margins[1], margins[1]))
    return np.pad(unit, sides, constant_values=1)


@dataclass(frozen=True)
class FrameFolders:
    """Folders of the pictures that an annotation file names.

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
        return read_frames([frame_file(self.images, name) for name in names], size)

    def read_depth(self, names: Sequence[str], size: tuple[int, int]) -> FloatArray | None:
        """Read depth, float32 ``[F, H, W]``; None where there is none; arguments and errors as for `read_rgb`."""
        if self.depth is None:
            return None
        return np.stack([read_depth_picture(frame_file(self.depth, name), size) for name in names])


def read_json(path: Path) -> Any:  # noqa: ANN401 - what JSON has
    """Read a small JSON file.

    Raises:
        InputError: if it cannot be read or is no JSON.
    """
    try:
        return load_json(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: expected JSON in UTF-8, got something else ({error})") from error


def given_inputs(**paths: Path | None) -> dict[str, Path]:
    """The files and folders that a user named, by argument."""
    return {name: path for name, path in paths.items() if path is not None}
