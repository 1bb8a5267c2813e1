"""Applies the corruptions of `synthetic.corruptions` to the training samples of generated scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.synthetic.corruptions import corrupt_depth, corrupt_masks, include_visible
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray


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
