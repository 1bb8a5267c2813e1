"""What the autoencoder is trained on: kinds of pictures, crops, colors, color patterns."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from amodal_diffusion.data.samples import SceneDataset
from amodal_diffusion.types import InputError
from recipes.tiny.autoencoder import KINDS, draw_batch, picture
from tests.training.conftest import VAE_SETTINGS


@pytest.fixture(scope="module")
def clips() -> list:
    dataset = SceneDataset("train", length=3, frames=2, height=32, width=64, with_rgb=True)
    return [dataset[index] for index in range(3)]


def test_every_kind_of_picture_is_in_range(clips: list) -> None:
    for kind in KINDS:
        video = picture(clips[0], kind)
        assert video.shape == (2, 3, 32, 64)
        assert video.abs().max() <= 1
    assert set(picture(clips[0], "mask").unique().tolist()) <= {-1.0, 1.0}
    outside = ~torch.from_numpy(clips[0].amodal)
    assert (picture(clips[0], "whole").movedim(1, -1)[outside] == 1).all()


def test_batches_are_cropped_until_the_end(clips: list) -> None:
    crops = draw_batch(clips, VAE_SETTINGS, np.random.default_rng(0), whole_frames=False)
    again = draw_batch(clips, VAE_SETTINGS, np.random.default_rng(0), whole_frames=False)
    whole = draw_batch(clips, VAE_SETTINGS, np.random.default_rng(0), whole_frames=True)
    assert crops.shape == (2, 2, 3, 16, 16)
    assert torch.equal(crops, again)
    assert whole.shape == (1, 2, 3, 32, 64)


def test_clips_without_rgb_are_refused(clips: list) -> None:
    with pytest.raises(InputError, match="one is missing"):
        picture(replace(clips[0], rgb=None), "frame")


def test_channels_are_permuted_together(clips: list) -> None:
    settings = replace(VAE_SETTINGS, permute_channels=True, shares=(0, 0, 0, 0, 1))
    plain = draw_batch(clips, VAE_SETTINGS, np.random.default_rng(0), whole_frames=True)
    assert plain.shape[2] == 3
    drawn = draw_batch(clips[:1], settings, np.random.default_rng(0), whole_frames=True)[0]
    whole = picture(clips[0], "frame")
    options = [video[:, list(order)] for order in permutations(range(3)) for video in (whole, whole.flip(-1))]
    assert any(torch.equal(drawn, option) for option in options)


def test_patterns_are_plain_and_of_strong_colors(clips: list) -> None:
    settings = replace(VAE_SETTINGS, pattern_share=1.0, batch_size=30)
    drawn = draw_batch(clips, settings, np.random.default_rng(0), whole_frames=False)
    assert drawn.shape == (30, 2, 3, 16, 16)
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert {len(video[0].flatten(1).unique(dim=1).T) for video in drawn} == {1, 4, 16}
    assert 0.5 < float(drawn.abs().mean()) <= 1.0
