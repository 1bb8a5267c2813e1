"""Close-ups: they follow the object, keep their scale, and what is put back is where it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion.frames.crop import ObjectCrop, Focus, follow
from amodal_diffusion.types import InputError


def _moving(frames: int = 9) -> np.ndarray:
    masks = np.zeros((frames, 40, 80), dtype=np.bool_)
    for index in range(frames):
        masks[index, 10:20, 5 + 6 * index : 17 + 6 * index] = True
    return masks


def test_a_moving_object_is_followed_with_one_extent() -> None:
    places = follow(_moving())
    assert {(place.height, place.width) for place in places} == {(10, 12)}
    middle = places[4]
    assert (middle.row, middle.column) == pytest.approx((15.0, 35.0))
    columns = [place.column for place in places]
    assert columns == sorted(columns)


def test_hidden_frames_lie_between_their_neighbours_and_slivers_count_little() -> None:
    masks = _moving()
    masks[4] = False
    masks[5, :, :45] = False  # only the right end of the object is left
    places = follow(masks)
    assert places[3].column < places[4].column < places[6].column
    assert abs(places[5].column - 41) < 4


def test_an_object_that_is_never_seen_is_refused() -> None:
    with pytest.raises(InputError, match="empty in every frame"):
        follow(np.zeros((2, 4, 4), dtype=np.bool_))


def test_a_close_up_has_the_targets_aspect_and_room_around_the_object() -> None:
    part = ObjectCrop.at(Focus(15, 35, 10, 12), (40, 80), (32, 32), zoom=2.0)
    assert (part.height, part.width) == (24, 24)
    assert (part.top, part.left) == (3, 23)


@pytest.mark.parametrize(("extent", "height"), [((400, 10), 40), ((1, 1), 8)])
def test_a_close_up_is_at_most_the_frame_and_at_least_a_quarter_of_the_target(
    extent: tuple[int, int], height: int
) -> None:
    assert ObjectCrop.at(Focus(20, 40, *extent), (40, 40), (32, 32), zoom=2.0).height == height


@pytest.mark.parametrize(("row", "column"), [(15, 35), (0, 0), (39, 79), (-30, 200)])
def test_what_is_put_back_is_where_it_was(row: float, column: float) -> None:
    part = ObjectCrop.at(Focus(row, column, 12, 12), (40, 80), (48, 48), zoom=2.0)
    smooth = torch.linspace(0, 1, 40)[:, None] + torch.linspace(0, 1, 80)[None]
    close = part.apply(smooth[None, None], "edge")
    assert close.shape == (1, 1, 48, 48)
    back = part.undo(close, outside=-7.0)[0, 0]
    shown = back != -7.0
    assert shown.any()
    assert shown.sum() <= part.height * part.width
    assert (back - smooth)[shown].abs().max() < 0.03


def test_outside_the_frame_is_filled() -> None:
    part = ObjectCrop.at(Focus(0, 0, 10, 10), (40, 80), (20, 20), zoom=2.0)
    close = part.apply(torch.ones(1, 1, 40, 80), -1.0)
    assert (close[..., :9, :] == -1).all()
    assert (close[..., 11:, 11:] == 1).all()
