"""What a benchmark is: tracks with their truth, each with an identity that its random seeds come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from amodal_diffusion.metrics.boxes import Boxes
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array, VideoClip


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
