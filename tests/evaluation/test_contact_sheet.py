"""The contact sheet: every picture lies where its labels say, pixels enlarged and unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.evaluation.contact_sheet import SheetRow, draw_completion, draw_sheet
from amodal_diffusion.types import AmodalResult, InputError, VideoClip


@pytest.fixture
def clip() -> VideoClip:
    rgb = np.random.default_rng(0).integers(0, 200, (5, 12, 20, 3), dtype=np.uint8)
    modal = np.zeros((5, 12, 20), dtype=np.bool_)
    modal[:, 3:9, 4:8] = True
    return VideoClip(rgb, modal)


def contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(sheet, picture.shape)[..., 0, :, :, :]
    return bool((windows == picture).all(axis=(-3, -2, -1)).any())


def test_frames_are_shown_evenly_and_enlarged(clip: VideoClip) -> None:
    sheet = draw_completion(clip, clip.modal_mask, AmodalResult(clip.modal_mask), columns=3, scale=2)
    for frame in (0, 2, 4):
        assert contains(sheet, clip.rgb[frame].repeat(2, axis=0).repeat(2, axis=1))
    assert not contains(sheet, clip.rgb[1].repeat(2, axis=0).repeat(2, axis=1))


def test_painted_content_adds_a_row(clip: VideoClip) -> None:
    masks_only = draw_completion(clip, clip.modal_mask, AmodalResult(clip.modal_mask), columns=2)
    painted = draw_completion(clip, clip.modal_mask, AmodalResult(clip.modal_mask, clip.rgb), columns=2)
    assert painted.shape[0] > masks_only.shape[0]
    assert painted.shape[1] == masks_only.shape[1]


def test_predicted_and_true_masks_differ_where_the_masks_do(clip: VideoClip) -> None:
    wider = clip.modal_mask.copy()
    wider[:, 3:9, 8:14] = True
    same = draw_completion(clip, wider, AmodalResult(wider), columns=2)
    other = draw_completion(clip, clip.modal_mask, AmodalResult(wider), columns=2)
    assert (same != other).any()


def test_rows_that_are_no_table_are_refused(clip: VideoClip) -> None:
    rows = [SheetRow("one", clip.rgb[:2]), SheetRow("two", clip.rgb[:1])]
    with pytest.raises(InputError, match="expected 2 pictures of one size"):
        draw_sheet(rows, column_labels=["a", "b"])
