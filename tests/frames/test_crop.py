"""Object-centric crops: they follow the object, keep their scale, and invert() puts pixels back where they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.crop import BoxTrack, CropCenter, ObjectCrop, crop_centers


def _moving(frames: int = 9) -> np.ndarray:
    masks = np.zeros((frames, 40, 80), dtype=np.bool_)
    for index in range(frames):
        masks[index, 10:20, 5 + 6 * index : 17 + 6 * index] = True
    return masks


def test_centers_follow_a_moving_object_and_share_one_extent() -> None:
    centers = crop_centers(_moving())
    assert {(center.height, center.width) for center in centers} == {(10, 12)}
    middle = centers[4]
    assert (middle.row, middle.column) == pytest.approx((15.0, 35.0))
    columns = [center.column for center in centers]
    assert columns == sorted(columns)


def test_hidden_frames_lie_between_their_neighbors_and_slivers_count_little() -> None:
    masks = _moving()
    masks[4] = False
    masks[5, :, :45] = False  # only the right end of the object is left
    centers = crop_centers(masks)
    assert centers[3].column < centers[4].column < centers[6].column
    assert abs(centers[5].column - 41) < 4


@pytest.mark.parametrize("hidden", [range(0), range(40, 1400)])
def test_frames_far_away_change_no_crop(hidden: range) -> None:
    rng = np.random.default_rng(0)
    track, areas = BoxTrack(), []
    for index in range(1500):
        mask = np.zeros((40, 80), np.bool_)
        if index not in hidden:
            top, left = rng.integers(0, 30), rng.integers(0, 60)
            mask[top : top + rng.integers(1, 10), left : left + rng.integers(1, 20)] = True
        track.add(mask)
        rows, columns = np.nonzero(mask)
        if len(rows):
            middle = (rows.min() + rows.max() + 1) / 2, (columns.min() + columns.max() + 1) / 2
            areas.append((index, *middle, len(rows)))
    times, rows, columns, counts = np.asarray(areas, dtype=np.float64).T
    for index, center in enumerate(track.centers()):
        weights = counts / (1 + ((times - index) / 2) ** 2) ** 2  # of all frames
        wanted = replace(center, row=weights @ rows / weights.sum(), column=weights @ columns / weights.sum())
        assert abs(center.row - wanted.row) + abs(center.column - wanted.column) < 2e-3
        crops = [ObjectCrop.around(one, (40, 80), (32, 32), crop_scale=2.0) for one in (center, wanted)]
        assert crops[0] == crops[1]


def test_an_object_that_is_never_seen_is_refused() -> None:
    with pytest.raises(InputError, match="empty in every frame"):
        crop_centers(np.zeros((2, 4, 4), dtype=np.bool_))


def test_a_crop_has_the_targets_aspect_and_room_around_the_object() -> None:
    part = ObjectCrop.around(CropCenter(15, 35, 10, 12), (40, 80), (32, 32), crop_scale=2.0)
    assert (part.height, part.width) == (24, 24)
    assert (part.top, part.left) == (3, 23)


@pytest.mark.parametrize(("extent", "height"), [((400, 10), 40), ((1, 1), 8)])
def test_a_crop_is_at_most_the_frame_and_at_least_a_quarter_of_the_target(extent: tuple[int, int], height: int) -> None:
    assert ObjectCrop.around(CropCenter(20, 40, *extent), (40, 40), (32, 32), crop_scale=2.0).height == height


@pytest.mark.parametrize(("row", "column"), [(15, 35), (0, 0), (39, 79), (-30, 200)])
def test_inverting_puts_pixels_back_in_place(row: float, column: float) -> None:
    part = ObjectCrop.around(CropCenter(row, column, 12, 12), (40, 80), (48, 48), crop_scale=2.0)
    smooth = torch.linspace(0, 1, 40)[:, None] + torch.linspace(0, 1, 80)[None]
    cropped = part.apply(smooth[None, None], "edge")
    assert cropped.shape == (1, 1, 48, 48)
    back = part.invert(cropped, outside=-7.0)[0, 0]
    shown = back != -7.0
    assert shown.any()
    assert shown.sum() <= part.height * part.width
    assert (back - smooth)[shown].abs().max() < 0.03


def test_outside_the_frame_is_filled() -> None:
    part = ObjectCrop.around(CropCenter(0, 0, 10, 10), (40, 80), (20, 20), crop_scale=2.0)
    cropped = part.apply(torch.ones(1, 1, 40, 80), -1.0)
    assert (cropped[..., :9, :] == -1).all()
    assert (cropped[..., 11:, 11:] == 1).all()


def test_an_object_that_is_seen_once_is_cropped_where_it_was() -> None:
    masks = np.zeros((700, 20, 30), dtype=np.bool_)
    masks[0, 5:9, 5:9] = True
    centers = crop_centers(masks)
    assert {(round(center.row, 6), round(center.column, 6)) for center in centers} == {(7.0, 7.0)}
