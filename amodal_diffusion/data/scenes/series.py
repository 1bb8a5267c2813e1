"""Numbered scenes: which scene is the i-th of a split, for a seed and a size."""

from __future__ import annotations

from dataclasses import dataclass

from amodal_diffusion.data.scenes import testset
from amodal_diffusion.data.scenes.catalogue import Split
from amodal_diffusion.data.scenes.generate import Scene, make_scene, scene_name
from amodal_diffusion.types import InputError

SEED_STRIDE = 1 << 32
"""The scenes of seed s are those of the split from s times this on, so that different seeds share none."""


@dataclass(frozen=True)
class SceneSeries:
    """The first scenes of a split; scene i depends on nothing but (split, seed, i) and the size.

    ``test-v1`` is the fixed list of `testset` and comes in no other size, number or seed.

    Attributes:
        split: see `catalogue`.
        length: number of scenes.
        frames: F.
        height: H in pixels.
        width: W in pixels.
        seed: which of the disjoint series.

    Raises:
        InputError: if the length is not positive, the seed is negative, or `test-v1` is asked for other than it is.
    """

    split: Split
    length: int
    frames: int
    height: int
    width: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Check once."""
        if self.length < 1:
            raise InputError(f"length: expected at least 1 scene, got {self.length}")
        if self.seed < 0:
            raise InputError(f"seed: expected at least 0, got {self.seed}")
        if self.split == "test-v1":
            size = {"frames": self.frames, "height": self.height, "width": self.width}
            testset.check_request(length=self.length, seed=self.seed, **size)

    def scene(self, index: int, *, with_rgb: bool) -> Scene:
        """Make one scene.

        Args:
            index: from 0 to the length less one.
            with_rgb: whether to paint; slower.

        Raises:
            IndexError: beyond either end.
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
        return testset.seeds_of_test_v1()[index] if self.split == "test-v1" else self.seed * SEED_STRIDE + index
