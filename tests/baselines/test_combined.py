"""Baselines made of baselines, on a row of pixels worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion.baselines import HullSegmenter, NearerSegmenter, UnionSegmenter
from amodal_diffusion.basics import InputError
from amodal_diffusion.types import FloatArray, Segmentation, VideoClip

CLIP = VideoClip(np.zeros((1, 1, 6, 3), np.uint8), np.asarray([[[1, 0, 0, 1, 0, 0]]], dtype=np.bool_))
DEPTH = np.asarray([[[0.5, 0.9, 0.1, 0.5, 0.9, 0.9]]], dtype=np.float32)


class Guess:
    """Says that the object is at the last pixel, and keeps the depth that it was given."""

    depth: FloatArray | None = None

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        assert generator is None
        self.depth = depth
        guess = np.zeros_like(clip.modal_mask)
        guess[..., -1] = True
        return Segmentation.certain(guess)


def test_only_nearer_pixels_between_the_visible_ones_are_filled() -> None:
    np.testing.assert_array_equal(NearerSegmenter(HullSegmenter())(CLIP, DEPTH).mask[0, 0], [1, 1, 0, 1, 0, 0])


def test_a_union_holds_each_part_and_the_visible_pixels() -> None:
    np.testing.assert_array_equal(UnionSegmenter(HullSegmenter(), Guess())(CLIP, None).mask[0, 0], [1, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(UnionSegmenter(Guess())(CLIP, None).mask[0, 0], [1, 0, 0, 1, 0, 1])


def test_the_depth_goes_on_to_the_parts() -> None:
    guess = Guess()
    np.testing.assert_array_equal(NearerSegmenter(UnionSegmenter(guess))(CLIP, DEPTH).mask[0, 0], [1, 0, 0, 1, 0, 1])
    assert guess.depth is DEPTH


def test_depth_is_needed() -> None:
    with pytest.raises(InputError, match=r"depth: .* needs depth"):
        NearerSegmenter(HullSegmenter())(CLIP, None)
