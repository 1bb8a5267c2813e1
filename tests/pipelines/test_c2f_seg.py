"""C2F-Seg from clip to masks: sizes, hidden frames, short clips, long clips, shots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg import C2FSampling, C2FSeg, C2FSegConfig
from amodal_diffusion.pipelines.c2f_seg import C2FSegmenter, crops_around, network_windows
from amodal_diffusion.training.c2f_seg.clips import CropRule, crop_clip
from amodal_diffusion.types import VideoClip
from tests.c2f_seg import IMAGE, SMALL, moving_shape


@pytest.fixture(scope="module")
def video() -> C2FSegmenter:
    return C2FSegmenter(C2FSeg(SMALL))


@pytest.fixture(scope="module")
def image() -> C2FSegmenter:
    return C2FSegmenter(C2FSeg(IMAGE))


def clip_of(frames: int, height: int = 33, width: int = 47, *, seed: int = 0) -> VideoClip:
    """A square of 9 x 9 pixels, or what fits of it, that moves right over noise."""
    rgb = np.random.default_rng(seed).integers(0, 255, (frames, height, width, 3), dtype=np.uint8)
    mask = np.zeros((frames, height, width), dtype=np.bool_)
    for index in range(frames):
        mask[index, 2:11, 1 + index : 10 + index] = True
    return VideoClip(rgb, mask, cuts="none")


@pytest.mark.parametrize("size", [(33, 47), (5, 3), (1, 1), (300, 8)])
@pytest.mark.parametrize("frames", [1, 3])
def test_any_size_and_length_gives_masks_of_the_frames(video: C2FSegmenter, size: tuple[int, int], frames: int) -> None:
    modal = np.zeros((frames, *size), dtype=np.bool_)
    modal[:, : min(size[0], 9), : min(size[1], 9)] = True
    clip = VideoClip(np.random.default_rng(0).integers(0, 255, (frames, *size, 3), dtype=np.uint8), modal, cuts="none")
    found = video(clip)
    assert found.mask.shape == found.probability.shape == (frames, *size)
    assert (found.mask.dtype, found.probability.dtype, found.score.dtype) == (np.bool_, np.float32, np.float32)
    assert found.valid.shape == found.score.shape == (frames,)
    assert found.valid.all()
    assert 0 <= found.probability.min() <= found.probability.max() <= 1
    assert (found.mask >= modal).all()
    assert ((found.score >= 0) & (found.score <= 1)).all()


def test_three_frames_fill_a_window_of_24() -> None:
    wide = replace(SMALL, transformer=replace(SMALL.transformer, window=(24, 2, 2)))
    found = C2FSegmenter(C2FSeg(wide))(clip_of(3))
    assert found.mask.shape == (3, 33, 47)
    assert found.valid.all()


def test_a_hidden_frame_is_predicted_from_its_window_by_a_video_model_alone(
    video: C2FSegmenter, image: C2FSegmenter
) -> None:
    clip = clip_of(4)
    hidden = clip.modal_mask.copy()
    hidden[1] = False
    clip = VideoClip(clip.rgb, hidden, cuts="none")
    found = video(clip)
    assert found.valid.all()
    assert found.probability[1].any()
    found = image(clip)
    assert found.valid.tolist() == [True, False, True, True]
    assert not found.mask[1].any()
    assert found.score[1] == 0


def test_one_pixel_is_enough_and_several_parts_share_a_crop(video: C2FSegmenter) -> None:
    mask = np.zeros((2, 33, 47), dtype=np.bool_)
    mask[0, 32, 46] = True
    mask[1, 0, 0] = mask[1, 20, 40] = True
    found = video(VideoClip(clip_of(2).rgb, mask, cuts="none"))
    assert (found.mask >= mask).all()
    crops = crops_around(mask, SMALL, crop_scale=2.0)
    assert crops[0].box == (25, 39, 33, 47)
    assert crops[1].box == (0, 0, 32, 47)


def test_the_same_seed_gives_the_same_masks_and_none_is_seed_zero(video: C2FSegmenter) -> None:
    clip = clip_of(5)
    drawn = [video(clip, generator=torch.Generator().manual_seed(seed)).probability for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[0], video(clip).probability)
    assert not np.array_equal(drawn[0], drawn[2])


def test_each_shot_is_a_clip_of_its_own(video: C2FSegmenter) -> None:
    clip = clip_of(6)
    masks = clip.modal_mask.copy()
    masks[4:] = False
    found = video(VideoClip(clip.rgb, masks, cuts=(4,)))
    assert found.valid.tolist() == [True] * 4 + [False] * 2
    assert not found.mask[4:].any()
    alone = video(VideoClip(clip.rgb[:4], masks[:4], cuts="none"))
    assert np.array_equal(found.probability[:4], alone.probability)


def test_a_long_shot_is_cut_into_windows_that_overlap_by_half() -> None:
    assert network_windows(30, SMALL, None) == [(0, 30)]
    assert network_windows(8, SMALL, 8) == [(0, 8)]
    assert network_windows(21, SMALL, 8) == [(0, 8), (6, 14), (12, 20), (13, 21)]
    model = C2FSeg(SMALL)
    found = C2FSegmenter(model, C2FSampling(frames_at_once=4))(clip_of(11))
    assert found.probability.max(axis=(1, 2)).all()
    with pytest.raises(InputError, match="frames_at_once: expected a multiple of the window of 4"):
        C2FSegmenter(model, C2FSampling(frames_at_once=6))


def test_the_union_with_the_modal_mask_can_be_left_out() -> None:
    clip = clip_of(1)
    nothing = C2FSampling(mask_threshold=0.99, union_modal=False)
    assert not C2FSegmenter(C2FSeg(IMAGE), nothing)(clip).mask.any()
    assert np.array_equal(C2FSegmenter(C2FSeg(IMAGE), replace(nothing, union_modal=True))(clip).mask, clip.modal_mask)


@pytest.mark.parametrize("config", [SMALL, IMAGE], ids=["video", "image"])
def test_what_the_networks_see_does_not_depend_on_the_truth(config: C2FSegConfig) -> None:
    sample = moving_shape(0, size=40)
    hidden = sample.modal.copy()
    hidden[1] = False  # the released loader crops such a frame around the truth
    sample = replace(sample, modal=hidden)
    noise = np.random.default_rng(0).random(sample.amodal.shape) < 0.5
    rule = CropRule(config, (2.0, 2.0))
    one, other = (crop_clip(replace(sample, amodal=truth), rule, [2.0]) for truth in (sample.amodal, noise))
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.modal, other.modal)
    assert not torch.equal(one.amodal, other.amodal)
