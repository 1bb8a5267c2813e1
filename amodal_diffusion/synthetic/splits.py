"""The frozen split test-v1, and series of scenes of any split.

test-v1 consists of 200 clips fixed before any training. The code that generates them must not change; `test_v1.json`
holds their seeds and a digest of their masks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import count
from typing import Literal

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.catalogue import Split
from amodal_diffusion.synthetic.scenes import Scene, make_scene, scene_name

FRAMES, HEIGHT, WIDTH = 16, 64, 128
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Bin edges of the mean occluded share of partly occluded clips; `PARTIAL_QUOTAS` has the clips per bin."""
PARTIAL_QUOTAS = (35, 35, 30, 25, 20, 15)
VANISHING_QUOTA = 20
OPEN_QUOTA = 20
Kind = int | Literal["open", "vanishing"]


@dataclass(frozen=True)
class _Stored:
    """Content of `test_v1.json`."""

    seeds: tuple[int, ...]
    sha256_of_masks: str


def make_test_v1(with_rgb: bool) -> Iterator[Scene]:
    """Make the 200 clips of 16 frames at 64 x 128, always the same and in the same order.

    The target is never occluded in 20 clips, and completely occluded in some frames of 20 others. In all 180
    clips with occlusion, the mean occluded share is 0.1 to 0.7.

    Args:
        with_rgb: whether to render RGB; masks and depth are the same either way.
    """
    for seed in seeds_of_test_v1():
        yield make_scene(seed, split="test-v1", frames=FRAMES, height=HEIGHT, width=WIDTH, with_rgb=with_rgb)


def seeds_of_test_v1() -> tuple[int, ...]:
    """Seeds of the 200 clips, in order."""
    return _stored().seeds


def digest_of_test_v1() -> str:
    """Expected `mask_digest` of the 200 clips."""
    return _stored().sha256_of_masks


def check_request(*, length: int, frames: int, height: int, width: int, seed: int) -> None:
    """Reject clips that are not in test-v1, so that all results on test-v1 refer to the same clips.

    Raises:
        InputError: if `length` exceeds the number of clips, or the size or the seed differs.
    """
    clips = len(seeds_of_test_v1())
    if length > clips:
        raise InputError(f"length: test-v1 has {clips} clips, got {length}; ask for fewer or another split")
    if (frames, height, width) != (FRAMES, HEIGHT, WIDTH) or seed != 0:
        raise InputError(
            f"test-v1 is fixed: expected {FRAMES} frames of {HEIGHT} x {WIDTH} and seed 0, got {frames} of "
            f"{height} x {width} and seed {seed}; leave them at these values or choose another split"
        )


def mask_digest(scenes: Iterable[Scene]) -> str:
    """SHA-256 of the packed modal and amodal masks of each target."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(np.packbits(scene.target.modal).tobytes())
        digest.update(np.packbits(scene.target.amodal).tobytes())
    return digest.hexdigest()


def choose_seeds() -> list[int]:
    """Take each seed from 0 whose kind of clip is below its quota; this produced the list in `test_v1.json`."""
    wanted: dict[Kind, int] = {**dict(enumerate(PARTIAL_QUOTAS)), "vanishing": VANISHING_QUOTA, "open": OPEN_QUOTA}
    chosen: list[int] = []
    for seed in count():
        scene = make_scene(seed, split="test-v1", frames=FRAMES, height=HEIGHT, width=WIDTH, with_rgb=False)
        kind = _kind(scene)
        if kind is not None and wanted[kind]:
            wanted[kind] -= 1
            chosen.append(seed)
        if not any(wanted.values()):
            return chosen
    raise AssertionError("unreachable: count() does not end")


def hidden_shares(scene: Scene) -> np.ndarray:
    """Occluded share of the target in each frame where it is present, float64 with at most F values."""
    area = scene.target.amodal.sum(axis=(1, 2))
    seen = scene.target.modal.sum(axis=(1, 2))
    return np.asarray(1 - seen[area > 0] / area[area > 0])


def _kind(scene: Scene) -> Kind | None:
    shares = hidden_shares(scene)
    if not shares.any():
        return "open"
    if not SHARES[0] <= shares.mean() < SHARES[-1]:
        return None
    if (shares == 1).any():
        return "vanishing"
    return int(np.searchsorted(SHARES, shares.mean(), side="right")) - 1


@cache
def _stored() -> _Stored:
    stored = json.loads(files("amodal_diffusion.synthetic").joinpath("test_v1.json").read_text(encoding="utf-8"))
    return _Stored(seeds=tuple(stored["seeds"]), sha256_of_masks=stored["sha256_of_masks"])


SEED_STRIDE = 1 << 32
"""Series `s` starts at scene `s * SEED_STRIDE` of the split, so that different series share no scene."""


@dataclass(frozen=True)
class SceneSeries:
    """A series of scenes of a split; scene i depends only on (split, seed, i) and the size.

    For ``test-v1`` the scenes are those listed in `test_v1.json`; size and seed are fixed.

    Attributes:
        split: split whose families the scenes use.
        length: number of scenes.
        frames: F.
        height: H in pixels.
        width: W in pixels.
        seed: number of the series; different series share no scene.

    Raises:
        InputError: if the length is not positive, the seed is negative, or `test-v1` does not have the clips.
    """

    split: Split
    length: int
    frames: int
    height: int
    width: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate the fields."""
        if self.length < 1:
            raise InputError(f"length: expected at least 1 scene, got {self.length}")
        if self.seed < 0:
            raise InputError(f"seed: expected at least 0, got {self.seed}")
        if self.split == "test-v1":
            size = {"frames": self.frames, "height": self.height, "width": self.width}
            check_request(length=self.length, seed=self.seed, **size)

    def scene(self, index: int, *, with_rgb: bool) -> Scene:
        """Make one scene.

        Args:
            index: 0 to `length` - 1.
            with_rgb: whether to render RGB, which is slower.

        Raises:
            IndexError: if the index is out of range.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"index: expected 0 to {self.length - 1}, got {index}")
        return make_scene(
            self._seed_of(index),
            split=self.split,
            frames=self.frames,
            height=self.height,
            width=self.width,
            with_rgb=with_rgb,
        )

    def name(self, index: int) -> str:
        """Name of a scene, without making it."""
        return scene_name(self.split, self._seed_of(index))

    def _seed_of(self, index: int) -> int:
        return seeds_of_test_v1()[index] if self.split == "test-v1" else self.seed * SEED_STRIDE + index
