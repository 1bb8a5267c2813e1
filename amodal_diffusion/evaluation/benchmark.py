"""What a benchmark is: tracks with their truth, each with an identity that its random seed comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array, VideoClip


@dataclass(frozen=True)
class BenchmarkTrack:
    """One object through one clip, with the truth about it.

    Attributes:
        identity: unique within the benchmark and the same in every run.
        clip: the frames and the object's modal mask.
        amodal_mask: the whole object, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where the benchmark has none.
        whole_rgb: the whole object on white, uint8 ``[F, H, W, 3]``; None where the benchmark has none.
    """

    identity: str
    clip: VideoClip
    amodal_mask: BoolArray
    depth: FloatArray | None = None
    whole_rgb: UInt8Array | None = None

    @property
    def seed(self) -> int:
        """Seed in [0, 2^32) from the identity, so that neither order nor company changes a prediction."""
        return int.from_bytes(hashlib.sha256(self.identity.encode()).digest()[:4], "big")


class Benchmark(Protocol):
    """A named, ordered set of tracks, made or read one at a time."""

    @property
    def name(self) -> str:
        """Name that the report gives, with the split where there is one."""

    def __len__(self) -> int:
        """Number of tracks."""

    def __iter__(self) -> Iterator[BenchmarkTrack]:
        """Tracks in their order."""
