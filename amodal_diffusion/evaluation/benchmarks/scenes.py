"""The benchmark of generated scenes: the fixed split `test-v1`, or the first scenes of another split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.synthetic import Split, make_scene
from amodal_diffusion.synthetic.scenes import scene_name
from amodal_diffusion.synthetic.splits import FRAMES, HEIGHT, WIDTH, seeds_of_test_v1
from amodal_diffusion.types import InputError, VideoClip

CLIPS = 200
"""Number of clips of each split."""


@dataclass(frozen=True)
class ScenesBenchmark:
    """The first scenes of a split, generated one at a time.

    Attributes:
        split: name of the split; `test-v1` is a fixed list that shares no family of shapes with the others.
        clips: number of scenes.

    Raises:
        InputError: if the split has fewer clips.
    """

    split: Split = "test-v1"
    clips: int = CLIPS

    def __post_init__(self) -> None:
        """Check the number of clips."""
        if not 1 <= self.clips <= CLIPS:
            raise InputError(f"limit: expected 1 to {CLIPS} clips, got {self.clips}")

    @property
    def name(self) -> str:
        """See `Benchmark`."""
        return f"scenes/{self.split}"

    def __len__(self) -> int:
        """See `Benchmark`."""
        return self.clips

    @property
    def inputs(self) -> Mapping[str, Path]:
        """See `Benchmark`."""
        return {}

    def identity(self, index: int) -> str:
        """See `Benchmark`."""
        return _identity(scene_name(self.split, self._seed(index)))

    def track(self, index: int) -> MaskTarget:
        """See `Benchmark`."""
        return scene_track(self._seed(index), self.split)

    def _seed(self, index: int) -> int:
        return seeds_of_test_v1()[index] if self.split == "test-v1" else index


def scene_track(seed: int, split: Split = "test-v1") -> MaskTarget:
    """Generate one scene at the size of the test split, and take its target with all ground truth.

    Args:
        seed: number of the scene in the split.
        split: name of the split, which sets the families of shapes.
    """
    scene = make_scene(seed, split=split, frames=FRAMES, height=HEIGHT, width=WIDTH, with_rgb=True)
    if scene.rgb is None:
        raise RuntimeError(f"{scene.name}: asked for RGB and got none")
    target = scene.target
    return MaskTarget(
        identity=_identity(scene.name),
        clip=VideoClip(scene.rgb, target.modal, scene.fps),
        amodal_mask=target.amodal,
        depth=scene.depth,
        amodal_rgb=target.rgb,
    )


def _identity(scene: str) -> str:
    return f"scenes/{scene}"
