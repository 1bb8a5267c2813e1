"""A benchmark of squares that move behind a wall, small enough to be scored in no time, and methods that guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import BoxTarget, MaskTarget, Target
from amodal_diffusion.metrics import boxes_of
from amodal_diffusion.types import BoolArray, UInt8Array, VideoClip

FRAMES, HEIGHT, WIDTH = 4, 24, 48


@dataclass(frozen=True)
class Squares:
    """Each track is a square of 8 pixels, of which more is hidden from frame to frame, by a share of its own.

    Attributes:
        count: number of tracks.
        bad: place of a track that cannot be read.
        boxes: only its boxes are known.
        depth: whether there is any.
    """

    count: int = 3
    bad: int | None = None
    boxes: bool = False
    depth: bool = True

    @property
    def name(self) -> str:
        return "squares"

    @property
    def inputs(self) -> Mapping[str, Path]:
        return {}

    def __len__(self) -> int:
        return self.count

    def identity(self, index: int) -> str:
        return f"squares/{index}"

    def track(self, index: int) -> Target:
        if index == self.bad:
            raise InputError(f"frame 2 of {index}: is damaged")
        rng = np.random.default_rng(index)
        whole = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=np.bool_)
        modal = whole.copy()
        for frame in range(FRAMES):
            whole[frame, 8:16, 8 + frame : 16 + frame] = True
            modal[frame] = whole[frame]
            modal[frame, :, 16 + frame - frame * (1 + index % 3) :] = False
        clip = VideoClip(rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8), modal)
        depth = rng.random((FRAMES, HEIGHT, WIDTH), dtype=np.float32) if self.depth else None
        if self.boxes:
            return BoxTarget(identity=self.identity(index), clip=clip, depth=depth, amodal_boxes=boxes_of(whole))
        return MaskTarget(
            identity=self.identity(index), clip=clip, depth=depth, amodal_mask=whole, amodal_rgb=clip.rgb[..., ::-1]
        )


class Guess:
    """A learned method: predicts and paints random pixels, from the track's seed alone."""

    learned = True

    def __init__(self, name: str = "guess", *, uses_depth: bool = False) -> None:
        self.name, self.uses_depth = name, uses_depth

    def predict(self, track: Target, *, sample: int = 0) -> BoolArray:
        return np.random.default_rng(track.seed(sample)).random(track.clip.modal_mask.shape) < 0.5

    def paint(self, track: MaskTarget) -> UInt8Array:
        return np.random.default_rng(track.seed()).integers(0, 256, track.clip.rgb.shape, dtype=np.uint8)

    def describe(self, *, paints: bool) -> dict[str, object]:
        return {"paints": paints}


class Sure:
    """A learned method that knows the truth but for one track, of which it sees nothing."""

    name, learned, uses_depth = "sure", True, False

    def __init__(self, benchmark: Squares, *, misses: int | None = None) -> None:
        tracks = [benchmark.track(index) for index in range(len(benchmark)) if index != misses]
        self._whole = {track.identity: track.amodal_mask for track in tracks if isinstance(track, MaskTarget)}

    def predict(self, track: Target, *, sample: int = 0) -> BoolArray:  # noqa: ARG002
        return self._whole.get(track.identity, track.clip.modal_mask)

    def paint(self, track: MaskTarget) -> UInt8Array:
        return track.clip.rgb if track.amodal_rgb is None else track.amodal_rgb

    def describe(self, *, paints: bool) -> dict[str, object]:  # noqa: ARG002
        return {}
