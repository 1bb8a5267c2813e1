"""Clips to begin with: scenes of the test split, which no training saw, drawn large enough to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.track_files import TrackFiles, write_track
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.types import VideoClip

_FRAMES, _HEIGHT, _WIDTH = 16, 192, 384


@dataclass(frozen=True)
class Example:
    """A scene.

    Attributes:
        title: what it shows.
        seed: which scene of the split.
    """

    title: str
    seed: int


EXAMPLES = (
    Example("Mushroom behind a fence", 255),
    Example("Leaf behind a ladder", 4),
    Example("Heart behind boards", 10),
)


def write_example(example: Example, folder: Path) -> TrackFiles:
    """Draw a scene, and write its frames, the visible masks of its target and its depth.

    Args:
        example: which one.
        folder: made if it is not there.
    """
    scene = make_scene(example.seed, split="test-v1", frames=_FRAMES, height=_HEIGHT, width=_WIDTH, with_rgb=True)
    if scene.rgb is None:
        raise RuntimeError(f"{scene.name}: asked for RGB and got none")
    target = scene.target
    track = MaskTarget(
        identity=scene.name,
        clip=VideoClip(scene.rgb, target.modal, scene.fps),
        amodal_mask=target.amodal,
        depth=scene.depth,
        amodal_rgb=target.rgb,
    )
    return write_track(track, folder)
