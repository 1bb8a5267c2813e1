"""The contact sheet: every picture lies where its labels say, pixels enlarged and unchanged."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.drawing import SheetRow, draw_completion, draw_result, draw_sheet, show_result
from amodal_diffusion.types import AmodalResult, VideoClip


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


def test_a_result_is_drawn_with_and_without_its_clip(clip: VideoClip) -> None:
    painted = np.full((5, 12, 20, 3), 255, np.uint8)
    painted[clip.modal_mask] = (10, 200, 30)
    result = AmodalResult(clip.modal_mask, painted)
    alone, beside = draw_result(result, columns=2), draw_result(result, clip, columns=2)
    enlarged = painted[4].repeat(16, axis=0).repeat(16, axis=1)  # 20 pixels become 320
    for sheet in (alone, beside):
        assert contains(sheet[2::4, 2::4], enlarged[::4, ::4])  # where the second column begins
    row = 12 * 16 + 6
    assert beside.shape[0] - alone.shape[0] == 2 * row
    assert alone.shape[1] == beside.shape[1]


def test_large_frames_are_made_smaller() -> None:
    result = AmodalResult(np.ones((2, 40, 1300), np.bool_))
    assert draw_result(result, columns=2).shape[1] < 900


def test_samples_that_disagree_add_a_row_that_is_brightest_where_half_of_them_agree(clip: VideoClip) -> None:
    samples = np.stack([clip.modal_mask, np.zeros_like(clip.modal_mask)])
    certain = draw_result(AmodalResult(clip.modal_mask, samples=np.stack([clip.modal_mask] * 2)), columns=1)
    doubtful = draw_result(AmodalResult(clip.modal_mask, samples=samples), columns=1)
    assert certain.shape == doubtful.shape
    changed = (certain != doubtful).any(axis=-1)
    assert changed.sum() == 6 * 4 * 16**2
    assert (doubtful[changed] == 255).all()


def test_a_clip_of_another_shape_is_refused(clip: VideoClip) -> None:
    with pytest.raises(InputError, match="to match the result"):
        draw_result(AmodalResult(clip.modal_mask[:3]), clip)


def test_show_uses_the_notebook_where_there_is_one(clip: VideoClip, monkeypatch: pytest.MonkeyPatch) -> None:
    viewed: list[Image.Image] = []
    displayed: list[Image.Image] = []

    def view(picture: Image.Image) -> None:
        viewed.append(picture)

    monkeypatch.setattr(Image.Image, "show", view)
    result = AmodalResult(clip.modal_mask)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    show_result(result, clip)
    notebook = SimpleNamespace(get_ipython=object, display=SimpleNamespace(display=displayed.append))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    show_result(result, clip)
    assert (len(viewed), len(displayed)) == (1, 1)
    np.testing.assert_array_equal(np.asarray(displayed[0]), draw_result(result, clip))
