"""Training sees an object as the model does in use: the same close-up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from amodal_diffusion.data.samples import SceneDataset, closely
from amodal_diffusion.frames.crop import follow
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.frames.transforms import mask_to_unit, to_unit
from amodal_diffusion.pipelines.streams import FrameInput, StreamSettings
from amodal_diffusion.training.dataset import ContentCompletionTask
from tests.factories import SAMPLING


def test_close_ups_are_what_a_stream_shows_the_model() -> None:
    dataset = SceneDataset("train", length=3, frames=3, height=64, width=128, with_rgb=True)
    sample = dataset[1]
    near = closely(sample, height=32, width=64, zoom=2.0)
    assert near.modal.shape == near.amodal.shape == (3, 32, 64)
    assert near.rgb is not None
    assert near.rgb.shape == (3, 32, 64, 3)
    assert not (near.modal & ~near.amodal).any()
    assert near.amodal.mean() > sample.amodal.mean()
    settings = StreamSettings(replace(SAMPLING, zoom=2.0), seed=0)
    for index, place in enumerate(follow(sample.modal)):
        frame = FrameInput(sample.rgb[index], sample.modal[index], focus=place)
        seen = settings.look(frame, mask_to_unit(sample.modal[index][None]), -1.0) >= 0
        assert torch.equal(seen[0, 0], torch.from_numpy(near.modal[index]))
        visible = cut_out_on_white(sample.rgb[index][None], sample.modal[index][None])
        shown = settings.look(frame, to_unit(visible), 1.0)
        trained_on = ContentCompletionTask().prepare(near).modal[:, index]
        assert (shown - trained_on).abs().max() <= 1 / 127  # trained on 8-bit pixels
        depth = settings.look(frame, torch.from_numpy(sample.depth[index])[None, None], "edge")
        assert torch.equal(depth[0, 0], torch.from_numpy(near.depth[index]))


def test_a_dataset_of_close_ups() -> None:
    plain = SceneDataset("train", length=2, frames=2, height=64, width=128, with_rgb=False)
    near = SceneDataset("train", length=2, frames=2, height=64, width=128, with_rgb=False, close_up=(32, 32, 2.0))
    expected = closely(plain[1], height=32, width=32, zoom=2.0)
    assert np.array_equal(near[1].amodal, expected.amodal)
    assert near[1].name == plain[1].name
