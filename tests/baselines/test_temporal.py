"""The temporal baseline on objects that move behind things, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.baselines import NearerSegmenter, TemporalSegmenter
from amodal_diffusion.metrics import score_track
from amodal_diffusion.types import BoolArray, FloatArray, VideoClip


def passing_by(*, bar: int, frames: int = 12) -> tuple[VideoClip, BoolArray, FloatArray]:
    """An L that moves to the right behind an upright bar of some width: clip, whole masks, depth."""
    whole = np.zeros((frames, 48, 96), dtype=np.bool_)
    for frame in range(frames):
        left = 6 + 5 * frame
        whole[frame, 10:36, left : left + 8] = whole[frame, 28:36, left : left + 22] = True
    front = np.zeros((48, 96), dtype=np.bool_)
    front[:, 44 : 44 + bar] = True
    rgb = np.full((*whole.shape, 3), 90, dtype=np.uint8)
    rgb[whole] = (200, 120, 40)
    rgb[:, front] = 30
    depth = np.where(front, 0.9, np.where(whole, 0.5, 0.1)).astype(np.float32)
    return VideoClip(rgb, whole & ~front), whole, depth


def test_what_other_frames_show_is_filled_in() -> None:
    clip, whole, depth = passing_by(bar=10)
    scores = score_track(TemporalSegmenter()(clip, depth).mask, clip.modal_mask, whole)
    assert scores.miou > 0.97
    assert scores.miou_occ > 0.9
    assert scores.invented < 0.02


def test_without_depth_it_still_finds_most() -> None:
    clip, whole, _ = passing_by(bar=10)
    assert score_track(TemporalSegmenter()(clip, None).mask, clip.modal_mask, whole).miou_occ > 0.6


def test_a_fully_hidden_object_is_where_its_path_leads() -> None:
    clip, whole, depth = passing_by(bar=30)
    gone = ~clip.modal_mask.any(axis=(1, 2))
    assert gone.any()
    prediction = NearerSegmenter(TemporalSegmenter())(clip, depth).mask
    assert score_track(prediction, clip.modal_mask, whole).miou_hidden > 0.8


def test_turning_and_growing_are_followed() -> None:
    rows, columns = np.mgrid[0:64, 0:64] - 32.0
    whole = np.zeros((8, 64, 64), dtype=np.bool_)
    for frame, mask in enumerate(whole):
        angle, size = 0.15 * frame, 1 + 0.03 * frame
        v = (np.cos(angle) * rows - np.sin(angle) * columns) / size
        u = (np.sin(angle) * rows + np.cos(angle) * columns) / size
        mask[(abs(v) < 5) & (abs(u) < 20)] = True
        mask[(v > -14) & (v < 0) & (u > 12) & (u < 20)] = True
    modal = whole.copy()
    modal[5:, 34:, :] = False  # from the sixth frame on, the lower part is hidden
    depth = np.where(modal, 0.5, 0.1).astype(np.float32)
    depth[5:, 34:, :] = 0.9
    prediction = TemporalSegmenter()(VideoClip(np.zeros((*whole.shape, 3), np.uint8), modal), depth).mask
    assert score_track(prediction, modal, whole).miou_occ > 0.75


@pytest.mark.parametrize("frames", [1, 2])
def test_a_clip_of_a_frame_or_two(frames: int) -> None:
    modal = np.zeros((frames, 20, 20), dtype=np.bool_)
    modal[0, 5:9, 5:9] = True  # a second frame shows nothing
    prediction = TemporalSegmenter()(VideoClip(np.zeros((frames, 20, 20, 3), np.uint8), modal), None).mask
    np.testing.assert_array_equal(prediction[0], modal[0])
    assert prediction[-1].sum() == 16  # with nothing else to go by, it stays where it was
