"""What training reads: one object through one clip, and a dataset of procedural scenes."""

from __future__ import annotations

from dataclasses import dataclass

from torch.utils.data import Dataset

from amodal_diffusion.data.scenes import Split
from amodal_diffusion.data.scenes.series import SceneSeries
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array


@dataclass(frozen=True)
class AmodalSample:
    """One object through one clip with its truth.

    Attributes:
        name: unique within its dataset.
        modal: visible part, bool ``[F, H, W]``.
        amodal: whole object inside the frame, bool ``[F, H, W]``; contains `modal`.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where there is none.
        rgb: frames, uint8 ``[F, H, W, 3]``; None where there are none.
        whole_rgb: whole object on white, uint8 ``[F, H, W, 3]``; None where it is not known.
    """

    name: str
    modal: BoolArray
    amodal: BoolArray
    depth: FloatArray | None
    rgb: UInt8Array | None
    whole_rgb: UInt8Array | None


class SceneDataset(Dataset[AmodalSample]):
    """The targets of procedural scenes; item i depends on nothing but (split, seed, i) and the size.

    ``test-v1`` is the fixed list of `data.scenes.testset` and comes in no other size, number or seed.

    Args:
        split: see `data.scenes`.
        length: number of samples; of ``test-v1`` the first ones.
        frames: F.
        height: H in pixels.
        width: W in pixels.
        with_rgb: whether samples have RGB; slower with it.
        seed: which of the disjoint sequences of scenes; 0 counts the scenes from 0.

    Raises:
        InputError: if the length is not positive, the seed is negative, or `test-v1` is asked for other than it is.
    """

    def __init__(
        self, split: Split, *, length: int, frames: int, height: int, width: int, with_rgb: bool, seed: int = 0
    ) -> None:
        self.series = SceneSeries(split, length=length, frames=frames, height=height, width=width, seed=seed)
        self.with_rgb = with_rgb

    def __len__(self) -> int:
        return self.series.length

    def __getitem__(self, index: int) -> AmodalSample:
        scene = self.series.scene(index, with_rgb=self.with_rgb)
        target = scene.target
        return AmodalSample(scene.name, target.modal, target.amodal, scene.depth, scene.rgb, target.rgb)
