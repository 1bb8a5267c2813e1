"""What each stage makes of a clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.propagation.mask_prior import temporal_mask_prior
from amodal_diffusion.training.dataset import AmodalSegmentationTask, ContentCompletionTask, join, task_of
from amodal_diffusion.types import InputError


@pytest.fixture
def sample() -> AmodalSample:
    rng = np.random.default_rng(0)
    amodal = np.zeros((3, 8, 12), dtype=np.bool_)
    amodal[:, 2:6, 3:9] = True
    modal = amodal.copy()
    modal[:, :, 6:] = False
    rgb = rng.integers(0, 255, (3, 8, 12, 3), dtype=np.uint8)
    whole = np.where(amodal[..., None], rgb, 255).astype(np.uint8)
    return AmodalSample("clip", modal, amodal, rng.random((3, 8, 12), dtype=np.float32) * 9 + 4, rgb, whole)


def test_amodal_segmentation(sample: AmodalSample) -> None:
    batch = AmodalSegmentationTask().prepare(sample)
    assert batch.modal.shape == batch.guide.shape == batch.amodal.shape == (1, 3, 1, 8, 12)
    assert torch.equal(batch.modal[0, :, 0] > 0, torch.from_numpy(sample.modal))
    assert torch.equal(batch.amodal[0, :, 0] > 0, torch.from_numpy(sample.amodal))
    assert set(batch.modal.unique().tolist()) == set(batch.amodal.unique().tolist()) == {-1.0, 1.0}
    assert (batch.guide.min(), batch.guide.max()) == (-1.0, 1.0)
    assert batch.guide_present.tolist() == [True]


def test_a_clip_without_depth_has_no_guide(sample: AmodalSample) -> None:
    batch = AmodalSegmentationTask().prepare(replace(sample, depth=None, rgb=None, whole_rgb=None))
    assert batch.guide_present.tolist() == [False]
    assert not batch.guide.any()


def test_the_visible_mask_may_have_what_other_frames_show(sample: AmodalSample) -> None:
    task = task_of("amodal_segmentation", other_frames=True)
    assert task.needs_rgb
    batch = task.prepare(sample)
    assert sample.rgb is not None
    shown = temporal_mask_prior(sample.rgb, sample.modal, sample.depth)
    assert torch.equal(batch.modal[0, :, 0], torch.from_numpy(shown))
    assert torch.equal(batch.modal[0, :, 0] > 0, torch.from_numpy(sample.modal))
    with pytest.raises(InputError, match="found by RGB, got a clip without"):
        task.prepare(replace(sample, rgb=None))


def test_content_completion(sample: AmodalSample) -> None:
    assert sample.rgb is not None
    batch = ContentCompletionTask().prepare(sample)
    assert batch.modal.shape == batch.amodal.shape == (1, 3, 3, 8, 12)
    visible = torch.from_numpy(sample.modal)[:, None].expand(-1, 3, -1, -1)
    frames = torch.from_numpy(sample.rgb).movedim(-1, 1) / 127.5 - 1
    torch.testing.assert_close(batch.modal[0][visible], frames[visible])
    assert (batch.modal[0][~visible] == 1).all()
    assert torch.equal(batch.guide[0, :, 0] > 0, torch.from_numpy(sample.amodal))
    assert batch.guide_present.tolist() == [True]


def test_content_completion_names_the_clip_without_rgb(sample: AmodalSample) -> None:
    with pytest.raises(InputError, match="clip: content completion needs rgb"):
        ContentCompletionTask().prepare(replace(sample, whole_rgb=None))


def test_join(sample: AmodalSample) -> None:
    task = task_of("amodal_segmentation")
    batch = join([task.prepare(sample), task.prepare(replace(sample, depth=None))])
    assert batch.modal.shape == (2, 3, 1, 8, 12)
    assert batch.guide_present.tolist() == [True, False]


def test_the_stages_have_their_tasks() -> None:
    assert [task_of(stage).stage for stage in ("amodal_segmentation", "content_completion")] == [
        "amodal_segmentation",
        "content_completion",
    ]
    assert [task_of(stage).needs_rgb for stage in ("amodal_segmentation", "content_completion")] == [False, True]
