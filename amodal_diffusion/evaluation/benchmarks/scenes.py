"""The benchmark of generated clips: the fixed splits `test-v1` and `test-v2`, or the first clips of another split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.composites import open_composites
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.synthetic import Split, make_scene
from amodal_diffusion.synthetic.scenes import FPS, scene_name
from amodal_diffusion.synthetic.splits import FRAMES, HEIGHT, WIDTH, seeds_of_test_v1
from amodal_diffusion.types import VideoClip

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
        _check_number(self.clips)

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


class CompositesBenchmark:
    """The first composites of a split, of 25 frames at 128x256, with exact masks and true depth.

    Args:
        split: ``composites-validation``, ``composites-train`` or ``test-v2``; no category is in two of them.
        folder: cut-outs; None is an error that says what is needed.
        clips: number of composites.

    Raises:
        InputError: if the folder lacks pictures, or the split has fewer clips.
    """

    def __init__(self, split: str, folder: Path | None, clips: int = CLIPS) -> None:
        _check_number(clips)
        self._clips, self._folder, self._split = open_composites(split, folder, length=clips), folder, split

    @property
    def name(self) -> str:
        """See `Benchmark`."""
        return f"scenes/{self._split}"

    def __len__(self) -> int:
        """See `Benchmark`."""
        return len(self._clips)

    @property
    def inputs(self) -> Mapping[str, Path]:
        """The folder of cut-outs."""
        return {} if self._folder is None else {"data": self._folder}

    def identity(self, index: int) -> str:
        """See `Benchmark`."""
        return _identity(self._clips.name(index))

    def track(self, index: int) -> MaskTarget:
        """See `Benchmark`.

        Raises:
            InputError: if a clip of ``test-v2`` is not the frozen one.
        """
        sample = self._clips[index]
        if sample.rgb is None:
            raise RuntimeError(f"{sample.name}: composites have RGB, got none")
        return MaskTarget(
            identity=_identity(sample.name),
            clip=VideoClip(sample.rgb, sample.modal, FPS),
            amodal_mask=sample.amodal,
            depth=sample.depth,
            amodal_rgb=sample.whole_rgb,
        )


def _check_number(clips: int) -> None:
    if not 1 <= clips <= CLIPS:
        raise InputError(f"limit: expected 1 to {CLIPS} clips, got {clips}")


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
