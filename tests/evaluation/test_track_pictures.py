"""Pictures of a track: whatever the size of its frames, at one size; masks or boxes as its truth."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.evaluation.benchmarks.base import BoxTarget, MaskTarget
from amodal_diffusion.evaluation.report.pictures import draw_track, jpeg
from amodal_diffusion.types import VideoClip
from tests.squares import Squares


def mask_track() -> MaskTarget:
    track = Squares().track(1)
    assert isinstance(track, MaskTarget)
    return track


def larger(track: MaskTarget, times: int) -> MaskTarget:
    def grown(array: np.ndarray) -> np.ndarray:
        return array.repeat(times, axis=1).repeat(times, axis=2)

    clip = VideoClip(grown(track.clip.rgb), grown(track.clip.modal_mask))
    return replace(track, clip=clip, amodal_mask=grown(track.amodal_mask))


@pytest.mark.parametrize("times", [1, 2, 16])
def test_sheets_are_of_one_size_but_for_whole_multiples(times: int) -> None:
    track = larger(mask_track(), times)
    sheet = draw_track(track, {"modal": track.clip.modal_mask})
    assert sheet.dtype == np.uint8
    columns = {1: 240, 2: 192, 16: 256}[times]  # 48 pixels five times, 96 twice, 768 made smaller
    assert sheet.shape[1] == 120 + 4 * (columns + 6)


@pytest.mark.parametrize("times", [2, 16])
def test_a_hidden_part_is_marked_in_the_truth_alone(times: int) -> None:
    track = larger(mask_track(), times)
    modal = track.clip.modal_mask
    same = draw_track(replace(track, amodal_mask=modal), {"modal": modal})
    hidden = draw_track(track, {"modal": modal})
    changed = np.flatnonzero((same != hidden).any(axis=(1, 2)))
    rows = same.shape[0] / 4  # frame, visible, truth, modal
    assert 1.9 * rows < changed.min() < changed.max() < 3.1 * rows


def test_boxes_are_drawn_where_they_are_the_truth() -> None:
    track = Squares(boxes=True).track(1)
    assert isinstance(track, BoxTarget)
    sheet = draw_track(track, {"modal": track.clip.modal_mask})
    none = draw_track(replace(track, amodal_boxes=np.zeros_like(track.amodal_boxes)), {"modal": track.clip.modal_mask})
    differ = (sheet != none).any(axis=2)
    assert differ.any()
    assert (sheet[differ] == 255).all()  # white lines


def test_jpeg_is_a_picture_of_that_size() -> None:
    picture = np.zeros((20, 30, 3), dtype=np.uint8)
    assert Image.open(io.BytesIO(jpeg(picture))).size == (30, 20)
