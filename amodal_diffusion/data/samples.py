"""Samples: one object through one clip with its ground truth, at frame resolution."""

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
"""Random stream of the corruptions, separate from those of the scene itself (`synthetic.scenes`)."""


@dataclass(frozen=True)
class PackedFrame:
    """A frame without a file of its own, such as one in a shard.

    Attributes:
        name: for messages.
        identity: differs for frames of different content.
        read: reads it, uint8 ``[H, W, 3]``.
    """

    name: str
    identity: bytes
    read: Callable[[], UInt8Array]

    def __str__(self) -> str:
        return self.name


FrameFile = Path | PackedFrame
"""Where the pixels of a frame are."""


@dataclass(frozen=True)
class AmodalSample:
    """One object through one clip with its ground truth, at frame resolution.

    Attributes:
        name: unique within its dataset.
        modal: modal (visible) masks, bool ``[F, H, W]``.
        amodal: amodal masks inside the frame, bool ``[F, H, W]``; contain `modal`.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None without depth.
        rgb: frames, uint8 ``[F, H, W, 3]``; None if they are not read.
        whole_rgb: complete object on white, uint8 ``[F, H, W, 3]``; None if unknown.
        files: frames on disk, whose files may be missing if `rgb` is None; empty for a generated clip.
    """

    name: str
    modal: BoolArray
    amodal: BoolArray
    depth: FloatArray | None
    rgb: UInt8Array | None
    whole_rgb: UInt8Array | None
    files: tuple[FrameFile, ...] = ()


@dataclass(frozen=True)
class SceneCorruption:
    """Corrupts masks and depth of a share of the clips, and drops depth from a share.

    A clip that is corrupted at one share is corrupted in the same way at any larger share.

    Attributes:
        corrupted_share: share of clips whose masks and depth are corrupted, 0 to 1.
        depthless_share: share of clips without depth, 0 to 1.
    """

    corrupted_share: float = 0.0
    depthless_share: float = 0.0

    def __call__(self, sample: AmodalSample, rng: Rng) -> AmodalSample:
        """Corrupt one clip, or return it unchanged.

        Args:
            sample: clip whose object is visible in at least one frame; not modified.
            rng: random stream of this clip only.

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
    """Replace the modal masks of a sample, bool ``[F, H, W]``, and extend its ground truth to contain them."""
    amodal, whole_rgb = include_visible(sample.amodal, modal, rgb=sample.rgb, whole_rgb=sample.whole_rgb)
    return replace(sample, modal=modal, amodal=amodal, whole_rgb=whole_rgb)


class SceneDataset(Dataset[AmodalSample]):
    """The targets of generated scenes; item i depends only on (split, seed, i) and the size.

    ``test-v1`` is the fixed list of `synthetic.splits`; its size and seed are fixed.

    Args:
        split: split whose families the scenes use, see `synthetic`.
        length: number of samples; for ``test-v1`` the first ones.
        frames: F.
        height: H in pixels.
        width: W in pixels.
        with_rgb: whether samples have RGB, which is slower.
        seed: number of the series of scenes; different series share no scene.
        change: applied to each sample with a random stream of its own, such as :class:`SceneCorruption`.

    Raises:
        InputError: if the length is not positive, the seed is negative, or `test-v1` does not have the clips.
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
        """Name of a sample, without generating it."""
        return self.series.name(index)

    def __getitem__(self, index: int) -> AmodalSample:
        scene = self.series.scene(index, with_rgb=self.with_rgb)
        target = scene.target
        sample = AmodalSample(scene.name, target.modal, target.amodal, scene.depth, scene.rgb, target.rgb)
        if self.change is None:
            return sample
        return self.change(sample, Rng(CATALOGUES[scene.split].key, scene.seed, _CHANGE_STREAM))
