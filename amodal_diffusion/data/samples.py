"""Samples that training reads: one object through one clip with its truth, at the size of its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch.utils.data import Dataset

from amodal_diffusion.synthetic import Split
from amodal_diffusion.synthetic.catalogue import CATALOGUES
from amodal_diffusion.synthetic.corruptions import corrupt_depth, corrupt_masks, include_visible
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.synthetic.splits import SceneSeries
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

_CHANGE_STREAM = 100
"""Random stream of corruptions, apart from those of the scene itself (`synthetic.scenes`)."""


@dataclass(frozen=True)
class AmodalSample:
    """One object through one clip with its truth, at the frames' size.

    Attributes:
        name: unique within its dataset.
        modal: visible part, bool ``[F, H, W]``.
        amodal: whole object inside the frame, bool ``[F, H, W]``; contains `modal`.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where there is none.
        rgb: frames, uint8 ``[F, H, W, 3]``; None where they are not read.
        whole_rgb: whole object on white, uint8 ``[F, H, W, 3]``; None where it is not known.
        files: of the frames, which need not exist where they are not read; none for a generated clip.
    """

    name: str
    modal: BoolArray
    amodal: BoolArray
    depth: FloatArray | None
    rgb: UInt8Array | None
    whole_rgb: UInt8Array | None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SceneCorruption:
    """Corrupts the masks and depth of some clips of a dataset, and leaves depth out of some.

    A clip that is changed at one share is changed in the same way at any larger share.

    Attributes:
        corrupted_share: share of clips whose masks and depth are corrupted, 0 to 1.
        depthless_share: share of clips that come without depth, 0 to 1.
    """

    corrupted_share: float = 0.0
    depthless_share: float = 0.0

    def __call__(self, sample: AmodalSample, rng: Rng) -> AmodalSample:
        """Change one clip, or return it unchanged.

        Args:
            sample: its object is visible in at least one frame; not modified.
            rng: used for this clip only.

        Returns:
            a sample whose object is visible in at least one frame and whose `amodal` contains `modal`.
        """
        depthless, corrupted = rng.chance(self.depthless_share), rng.chance(self.corrupted_share)
        if corrupted:
            sample = with_modal(sample, corrupt_masks(sample.modal, rng))
            if sample.depth is not None:
                sample = replace(sample, depth=corrupt_depth(sample.depth, rng))
        return replace(sample, depth=None) if depthless else sample


def with_modal(sample: AmodalSample, modal: BoolArray) -> AmodalSample:
    """Replace the modal masks of a sample, bool ``[F, H, W]``, and extend its truth to contain them."""
    amodal, whole_rgb = include_visible(sample.amodal, modal, rgb=sample.rgb, whole_rgb=sample.whole_rgb)
    return replace(sample, modal=modal, amodal=amodal, whole_rgb=whole_rgb)


class SceneDataset(Dataset[AmodalSample]):
    """The targets of generated scenes; item i depends on nothing but (split, seed, i) and the size.

    ``test-v1`` is the fixed list of `synthetic.splits` and comes in no other size, number or seed.

    Args:
        split: see `synthetic`.
        length: number of samples; of ``test-v1`` the first ones.
        frames: F.
        height: H in pixels.
        width: W in pixels.
        with_rgb: whether samples have RGB; slower with it.
        seed: which of the disjoint sequences of scenes; 0 counts the scenes from 0.
        change: corrupts each sample, with a random stream of its own; see :class:`SceneCorruption`.

    Raises:
        InputError: if the length is not positive, the seed is negative, or `test-v1` is asked for other than it is.
    """

    def __init__(
        self,
        split: Split,
        *,
        length: int,
        frames: int,
        height: int,
        width: int,
        with_rgb: bool,
        seed: int = 0,
        change: Callable[[AmodalSample, Rng], AmodalSample] | None = None,
    ) -> None:
        self.series = SceneSeries(split, length=length, frames=frames, height=height, width=width, seed=seed)
        self.with_rgb = with_rgb
        self.change = change

    def __len__(self) -> int:
        return self.series.length

    def name(self, index: int) -> str:
        """Name of a sample, without making it."""
        return self.series.name(index)

    def __getitem__(self, index: int) -> AmodalSample:
        scene = self.series.scene(index, with_rgb=self.with_rgb)
        target = scene.target
        sample = AmodalSample(scene.name, target.modal, target.amodal, scene.depth, scene.rgb, target.rgb)
        if self.change is None:
            return sample
        return self.change(sample, Rng(CATALOGUES[scene.split].key, scene.seed, _CHANGE_STREAM))
