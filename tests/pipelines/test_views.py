"""Averaged views: each is turned before and back after, and a network that does not care gives the same score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from amodal_diffusion.models.checkpoint import read_settings, write_settings
from amodal_diffusion.pipelines.amodal_segmentation import mask_score
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.pipelines.views import mean_score
from tests.factories import moving_square, tiny_completer_folder


def window() -> Tensor:
    return torch.rand(1, 3, 1, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("views", [1, 2, 4])
def test_a_network_that_repeats_its_input_scores_alike_in_every_view(views: int) -> None:
    seen: list[tuple[Tensor, Tensor, bool]] = []

    def sample(modal: Tensor, guide: Tensor | None, *, backwards: bool) -> Tensor:
        assert guide is not None
        seen.append((modal, guide, backwards))
        return modal.expand(2, -1, 3, -1, -1)  # two answers

    modal = window()
    score = mean_score(sample, modal, -modal, views=views)
    assert score.shape == (3, 2, 4, 6)
    expected = mask_score(modal[0].expand(-1, 3, -1, -1))
    torch.testing.assert_close(score, torch.stack([expected, expected], dim=1))
    turned = {1: [()], 2: [(), (-1,)], 4: [(), (-1,), (1,), (1, -1)]}[views]
    assert len(seen) == views
    for (given, guide, backwards), axes in zip(seen, turned, strict=True):
        assert torch.equal(given, modal.flip(axes))
        assert torch.equal(guide, -given)
        assert backwards == (1 in axes)


def test_the_score_is_the_mean() -> None:
    def left(modal: Tensor, _: Tensor | None, *, backwards: bool) -> Tensor:
        """Always the left half, whatever it is shown; in the last frame it is shown none of it."""
        video = torch.full((1, *modal.shape[1:2], 3, *modal.shape[3:]), -1.0)
        video[:, :-1, :, :, :3] = 1.0
        assert backwards in (True, False)
        return video

    assert mean_score(left, window(), None, views=2)[:, 0, 0].tolist() == [[0.5] * 6, [0.5] * 6, [0.0] * 6]
    assert mean_score(left, window(), None, views=4)[:, 0, 0].tolist() == [[0.25] * 6, [0.5] * 6, [0.25] * 6]


def test_a_mirrored_clip_gets_the_mirrored_mask_where_noise_does_not_matter(tmp_path: Path) -> None:
    folder = tiny_completer_folder(tmp_path / "model")
    masks = {}
    for views in (1, 2, 4):
        stage = folder / "amodal_segmentation"
        settings = read_settings(stage)
        write_settings(replace(settings, sampling=replace(settings.sampling, views=views)), stage)
        completer = AmodalCompleter.from_pretrained(folder, stages=("amodal_segmentation",), device="cpu")
        calls: list[str] = []
        with completer.watched(calls.append):
            masks[views] = completer.complete(moving_square(3)).amodal_mask
        assert len(calls) == views * settings.sampling.network_passes
    assert not np.array_equal(masks[1], masks[2])  # random weights care
    assert all(not (moving_square(3).modal_mask & ~mask).any() for mask in masks.values())
