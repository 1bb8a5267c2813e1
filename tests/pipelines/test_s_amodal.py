"""S-AModal from frames to masks: online, through full occlusion, at any size; and Lucas-Kanade on a moving texture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.s_amodal import SAModal, SAModalSampling
from amodal_diffusion.pipelines.s_amodal import SAModalSegmenter
from amodal_diffusion.propagation.point_tracking import LucasKanade
from amodal_diffusion.types import BoolArray, UInt8Array, VideoClip
from tests.c2f_seg import moving_shape
from tests.s_amodal import TINY, Knowing


@pytest.fixture(scope="module")
def segmenter() -> SAModalSegmenter:
    return SAModalSegmenter(SAModal(TINY))


def clip_of(
    frames: int, height: int = 33, width: int = 47, *, hidden: tuple[int, ...] = (), seed: int = 0
) -> VideoClip:
    """A square of 9 x 9 pixels that moves right over noise; hidden in some frames."""
    rgb = np.random.default_rng(seed).integers(0, 255, (frames, height, width, 3), dtype=np.uint8)
    mask = np.zeros((frames, height, width), dtype=np.bool_)
    for index in set(range(frames)) - set(hidden):
        mask[index, 2:11, 5 + index : 14 + index] = True
    return VideoClip(rgb, mask, cuts="none")


@pytest.mark.parametrize("size", [(33, 47), (5, 3), (1, 1), (300, 8)])
@pytest.mark.parametrize("frames", [1, 3])
def test_any_size_and_length_gives_masks_of_the_frames(
    segmenter: SAModalSegmenter, size: tuple[int, int], frames: int
) -> None:
    modal = np.zeros((frames, *size), dtype=np.bool_)
    modal[0, : min(size[0], 9), : min(size[1], 9)] = True  # no pixel in the later frames
    clip = VideoClip(np.random.default_rng(0).integers(0, 255, (frames, *size, 3), dtype=np.uint8), modal, cuts="none")
    found = segmenter(clip)
    assert found.mask.shape == found.probability.shape == (frames, *size)
    assert (found.mask.dtype, found.probability.dtype, found.score.dtype) == (np.bool_, np.float32, np.float32)
    assert found.valid[0]
    assert np.array_equal(found.valid, found.mask.any(axis=(1, 2)))
    assert 0 <= found.probability.min() <= found.probability.max() <= 1
    assert (found.mask >= modal).all()
    assert ((found.score >= 0) & (found.score <= 1)).all()


@pytest.mark.parametrize("tracker", ["constant_velocity", "lucas_kanade"])
def test_a_frame_does_not_depend_on_later_ones_and_comes_before_they_are_asked_for(tracker: str) -> None:
    segmenter = SAModalSegmenter(SAModal(TINY), SAModalSampling(tracker=tracker, vanish=False))
    clip, other = clip_of(7, hidden=(2, 3, 5)), clip_of(7, hidden=(4, 6), seed=1)
    whole, asked = segmenter(clip), []

    def frames() -> Iterator[tuple[UInt8Array, BoolArray]]:
        for number in range(7):
            asked.append(number)
            yield clip.rgb[number], clip.modal_mask[number]

    for number, frame in enumerate(segmenter.stream(frames())):
        assert asked[-1] == number
        assert np.array_equal(frame.probability, whole.probability[number])
        assert np.array_equal(frame.mask, whole.mask[number])
        assert frame.valid == whole.valid[number]
        assert frame.tracked == (number in (2, 3, 5))
    for end in range(1, 7):
        rgb = np.concatenate([clip.rgb[:end], other.rgb[end:]])
        modal = np.concatenate([clip.modal_mask[:end], other.modal_mask[end:]])
        changed = segmenter(VideoClip(rgb, modal, cuts="none"))
        for part in ("mask", "probability", "valid", "score"):
            assert np.array_equal(getattr(changed, part)[:end], getattr(whole, part)[:end])


def test_a_fully_hidden_object_is_followed() -> None:
    for seed in range(3):
        sample = moving_shape(seed, frames=7)
        hidden = [2, 3, 4]
        modal = sample.modal.copy()
        modal[hidden] = False
        shown = [frame for frame in range(7) if frame not in hidden]
        found = SAModalSegmenter(Knowing(sample.amodal[shown]))(VideoClip(sample.rgb, modal, cuts="none"))
        assert found.valid.all()
        for frame in hidden:
            both, either = found.mask[frame] & sample.amodal[frame], found.mask[frame] | sample.amodal[frame]
            assert both.sum() > 0.8 * either.sum()
        assert found.score.tolist() == pytest.approx([0.9] * 7)


def test_what_was_never_seen_or_has_left_is_not_valid(segmenter: SAModalSegmenter) -> None:
    clip = clip_of(5, hidden=(0, 1, 3))
    found = segmenter(clip)
    assert found.valid[:3].tolist() == [False, False, True]
    assert not found.mask[:2].any()
    assert found.score[:2].tolist() == [0, 0]

    alone = np.zeros((4, 33, 47), dtype=np.bool_)
    alone[0, 5:9, :4] = alone[3, 5:9, 20:24] = True  # hidden at the left border, then seen again
    known = SAModalSegmenter(Knowing(np.zeros((2, 64, 64))))  # the masks are the modal ones
    assert known(VideoClip(clip.rgb[:4], alone, cuts="none")).valid.tolist() == [True, False, False, True]


def test_a_cut_forgets_what_was_seen(segmenter: SAModalSegmenter) -> None:
    clip = clip_of(6, hidden=(4, 5))
    sampling = replace(segmenter.sampling, vanish=False)
    whole = SAModalSegmenter(segmenter.model, sampling)
    assert whole(clip).valid[4:].any()
    assert not whole(VideoClip(clip.rgb, clip.modal_mask, cuts=(4,))).valid[4:].any()


def test_the_same_seed_gives_the_same_masks_and_none_is_seed_zero(segmenter: SAModalSegmenter) -> None:
    clip = clip_of(3)
    drawn = [segmenter(clip, generator=torch.Generator().manual_seed(seed)).probability for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[0], segmenter(clip).probability)
    assert not np.array_equal(drawn[0], drawn[2])


def test_frames_of_another_size_and_a_missing_tracker_are_one_line(segmenter: SAModalSegmenter) -> None:
    one, other = clip_of(1), clip_of(1, 20, 20)
    frames = [(one.rgb[0], one.modal_mask[0]), (other.rgb[0], other.modal_mask[0])]
    with pytest.raises(InputError, match=r"frames: expected uint8 \[33, 47, 3\].* in frame 1"):
        list(segmenter.stream(frames))
    with pytest.raises(InputError, match="tracker_weights: expected a safetensors file"):
        SAModalSegmenter(segmenter.model, SAModalSampling(tracker="cotracker"))
    with pytest.raises(InputError, match="vanish_margin, mask_threshold"):
        SAModalSampling(vanish_margin=0.5)


def test_lucas_kanade_follows_a_moving_texture_and_stops_outside() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((160, 200)), 2)
    texture = (noise - noise.min()) / np.ptp(noise) * 255

    def frame(right: float, down: float) -> UInt8Array:
        moved = ndimage.shift(texture, (down, right), order=3, mode="nearest")[30:130, 40:160]
        return np.repeat(moved.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    points = np.array([[60.0, 50.0], [45.0, 40.0]])
    track = LucasKanade(reach=24).begin(frame(0, 0), points, velocity=np.zeros(2))
    for step in range(1, 8):
        found, visible = track.step(frame(2.5 * step, 1.25 * step))
        assert abs(found - points - [2.5 * step, 1.25 * step]).max() < 0.5
        assert visible.all()
    outside = np.array([[-5.0, 50.0], [np.nan, 0.0]])
    found, visible = LucasKanade().begin(frame(0, 0), outside, velocity=np.zeros(2)).step(frame(1, 0))
    assert np.array_equal(found, outside, equal_nan=True)
    assert not visible.any()
