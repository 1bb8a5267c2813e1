"""The benchmark of procedural scenes: the fixed split `test-v1`, or the first scenes of another split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amodal_diffusion.data.samples import SceneDataset
from amodal_diffusion.data.scenes import Split
from amodal_diffusion.data.scenes.generate import FPS
from amodal_diffusion.evaluation.benchmark import BenchmarkTrack
from amodal_diffusion.types import VideoClip

CLIPS, FRAMES, HEIGHT, WIDTH = 200, 16, 64, 128


@dataclass(frozen=True)
class ScenesBenchmark:
    """The targets of the first scenes of a split, made as they are asked for.

    Attributes:
        split: the split; `test-v1` is fixed and shares no family with the others.
        clips: number of scenes.
    """

    split: Split = "test-v1"
    clips: int = CLIPS

    @property
    def name(self) -> str:
        """See `Benchmark`."""
        return f"scenes/{self.split}"

    def __len__(self) -> int:
        return self.clips

    def __iter__(self) -> Iterator[BenchmarkTrack]:
        """See `Benchmark`."""
        dataset = SceneDataset(self.split, length=self.clips, frames=FRAMES, height=HEIGHT, width=WIDTH, with_rgb=True)
        for index in range(self.clips):
            sample = dataset[index]
            if sample.rgb is None:
                raise RuntimeError(f"{sample.name}: asked for RGB and got none")
            yield BenchmarkTrack(
                identity=f"{self.name}/{sample.name}",
                clip=VideoClip(sample.rgb, sample.modal, FPS),
                amodal_mask=sample.amodal,
                depth=sample.depth,
                whole_rgb=sample.whole_rgb,
            )
