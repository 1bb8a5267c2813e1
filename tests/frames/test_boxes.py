"""Boxes around masks, and crops that are pasted back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.boxes import BoxCrop, box_crops, enlarge, tight_box, track_boxes


def disk(height: int, width: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


def test_a_tight_box_is_half_open_and_none_for_nothing() -> None:
    mask = np.zeros((9, 12), dtype=np.bool_)
    assert tight_box(mask) is None
    mask[2, 3] = mask[5, 10] = True
    assert tight_box(mask) == (2, 3, 6, 11)
    assert tight_box(np.ones((9, 12), dtype=np.bool_)) == (0, 0, 9, 12)


def test_enlarging_keeps_the_center_and_clips_at_the_border() -> None:
    assert enlarge((10, 10, 20, 14), 2, (40, 40)) == (5, 8, 25, 16)
    assert enlarge((0, 30, 10, 40), 2, (40, 40)) == (0, 25, 15, 40)
    assert enlarge((3, 3, 4, 4), 2, (40, 40), smallest=8) == (0, 0, 8, 8)  # kept in the frame, and kept large
    assert enlarge((3, 3, 4, 4), 2, (5, 40), smallest=8) == (0, 0, 5, 8)  # a frame smaller than that


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (50, 0, 60, 9), (-9, 0, 0, 9)])
def test_a_box_without_area_in_the_frame_is_an_error(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="box"):
        enlarge(box, 2, (40, 40))
    with pytest.raises(InputError, match="factor"):
        enlarge((0, 0, 4, 4), 0, (40, 40))


def test_hidden_frames_get_interpolated_boxes() -> None:
    masks = np.zeros((6, 20, 40), dtype=np.bool_)
    masks[1, 4:8, 2:6] = True
    masks[4, 10:14, 20:30] = True
    boxes = track_boxes(masks)
    assert boxes[0] == boxes[1] == (4, 2, 8, 6)
    assert boxes[2] == (6, 8, 10, 14)
    assert boxes[4] == boxes[5] == (10, 20, 14, 30)
    with pytest.raises(InputError, match="empty in every frame"):
        track_boxes(masks[:1])


@pytest.mark.parametrize("common_scale", [True, False])
def test_a_mask_comes_back_from_its_crop(*, common_scale: bool) -> None:
    masks = np.stack([disk(60, 90, 30, 20 + 12 * t, 9 + t) for t in range(5)])
    boxes = [enlarge(box, 2, (60, 90)) for box in track_boxes(masks)]
    crops = box_crops(boxes, (60, 90), 64, common_scale=common_scale)
    for crop, mask in zip(crops, masks, strict=True):
        frame = torch.from_numpy(mask)[None, None].float()
        small = crop.apply(frame, nearest=True)
        assert small.shape == (1, 1, 64, 64)
        assert set(small.unique().tolist()) == {0.0, 1.0}
        back = crop.paste_back(small)[0, 0].numpy() > 0.5
        assert (back & mask).sum() / (back | mask).sum() > 0.97


def test_all_crops_of_a_clip_have_one_scale_per_axis_and_are_padded_right_and_below() -> None:
    crops = box_crops([(0, 0, 20, 10), (0, 0, 10, 40)], (60, 90), 64, common_scale=True)
    assert [crop.inner_hw for crop in crops] == [(64, 16), (32, 64)]
    picture = crops[0].apply(torch.ones(1, 3, 60, 90))
    assert picture[..., :16].eq(1).all()
    assert picture[..., 16:].eq(0).all()


def test_nothing_is_pasted_outside_the_box() -> None:
    crop = BoxCrop((2, 3, 6, 9), (8, 12), (16, 16), 16)
    frame = crop.paste_back(torch.ones(1, 1, 16, 16))
    assert float(frame.sum()) == pytest.approx(24)
    assert frame[0, 0, 2:6, 3:9].mean() == pytest.approx(1)
