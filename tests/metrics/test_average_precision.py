"""Average precision on squares worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics import Instance, average_precision, occlusion_rate
from amodal_diffusion.types import BoolArray


def squares(*lefts: int | None, side: int = 10) -> BoolArray:
    """Frames of 20 x 60 pixels, each with a square from a left column on."""
    masks = np.zeros((len(lefts), 20, 60), dtype=np.bool_)
    for mask, left in zip(masks, lefts, strict=True):
        if left is not None:
            mask[5 : 5 + side, left : left + side] = True
    return masks


def track(*lefts: int | None, group: str = "1", score: float = 1.0, side: int = 10) -> Instance:
    return Instance.from_masks(group, squares(*lefts, side=side), score=score)


def test_identity_is_one() -> None:
    instances = [track(0, 5), track(30, 40), track(10, 20, group="2")]
    result = average_precision(instances, instances)
    assert (result.ap, result.ap50, result.ap75, result.ar100) == pytest.approx((1.0, 1.0, 1.0, 1.0))
    assert result.ap50_by_size["small"] == pytest.approx(1.0)  # 100 pixels
    assert math.isnan(result.ap50_by_size["large"])


def test_thresholds_that_an_overlap_passes() -> None:
    # Shifted by 2 of 10: IoU 8 / 12 = 0.667, above 0.50, 0.55, 0.60 and 0.65.
    result = average_precision([track(0)], [track(2)])
    assert result.ap == pytest.approx(4 / 10)
    assert (result.ap50, result.ap75) == pytest.approx((1.0, 0.0))


def test_two_tracks_that_swap_halfway_find_nothing() -> None:
    truth = [track(0, 0, 0, 0), track(40, 40, 40, 40)]
    swapped = [track(0, 0, 40, 40), track(40, 40, 0, 0)]  # IoU 2 / 6 each
    assert average_precision(truth, swapped).ap50 == 0.0


def test_a_missing_track_halves_recall() -> None:
    result = average_precision([track(0, 0), track(40, 40)], [track(0, 0)])
    assert result.ar100 == 0.5
    assert result.ap == pytest.approx(51 / 101)  # recalls 0, 0.01, ... 0.5 of 0, ... 1


def test_a_frame_missing_on_one_side_adds_to_the_union() -> None:
    result = average_precision([track(0, 0, 0)], [track(0, 0, None)])  # 2 / 3
    assert result.ap == pytest.approx(4 / 10)


def test_a_better_scored_mistake_costs_precision() -> None:
    truth = [track(0)]
    assert average_precision(truth, [track(0, score=0.9), track(40, score=0.8)]).ap50 == pytest.approx(1.0)
    assert average_precision(truth, [track(0, score=0.8), track(40, score=0.9)]).ap50 == pytest.approx(0.5)


def test_groups_and_categories_keep_apart() -> None:
    assert average_precision([track(0)], [track(0, group="2")]).ap == 0.0
    other = Instance.from_masks("1", squares(0), category=2)
    assert average_precision([track(0)], [other]).ap == pytest.approx(1.0)
    assert average_precision([track(0)], [other], class_agnostic=False).ap == 0.0


def test_hidden_tracks_are_split_and_left_out() -> None:
    partly, mostly = squares(0, 0), squares(40, 40)
    half, tenth = partly.copy(), mostly.copy()
    half[:, 5:8] = False  # hides 3 of 10 rows
    tenth[:, 5:14] = False  # 9 of 10
    truth = [
        Instance.from_masks("1", whole, occlusion=occlusion_rate(modal, whole))
        for modal, whole in ((half, partly), (tenth, mostly))
    ]
    assert [instance.occlusion for instance in truth] == pytest.approx([0.3, 0.9])
    all_of_them = average_precision(truth, [track(0, 0)])
    assert (all_of_them.ar100, all_of_them.instances, all_of_them.left_out) == (0.5, 2, 0)
    published = average_precision(truth, [track(0, 0)], most_hidden=0.75)
    assert (published.ar100, published.instances, published.left_out) == (1.0, 1, 1)
    assert [published.ap50_by_occlusion[name] for name in ("medium", "heavy")] == pytest.approx([1.0, 1.0])
    assert math.isnan(published.ap50_by_occlusion["partial"])
    # What matches a track that is left out is not wrong either.
    assert average_precision(truth, [track(40, 40, score=2.0), track(0, 0)], most_hidden=0.75).ap == pytest.approx(1.0)


def test_the_rate_is_that_of_the_more_hidden_half() -> None:
    amodal = squares(0, 0, 0, None)
    modal = amodal.copy()
    modal[1, 5:10] = False  # half
    modal[2] = False  # all
    # 0, 0.5 and 1 over the frames with the object; the higher half of three is two.
    assert occlusion_rate(modal, amodal) == pytest.approx(0.75)
    assert occlusion_rate(squares(None), squares(None)) == 0.0


def test_nothing_true_or_nothing_predicted() -> None:
    assert math.isnan(average_precision([], [track(0)]).ap)
    assert average_precision([track(0)], []).ap == 0.0


def test_tracks_of_a_group_have_as_many_frames() -> None:
    with pytest.raises(InputError, match="expected as many frames"):
        average_precision([track(0, 0)], [track(0)])


def test_the_size_is_that_of_the_frames_with_the_object() -> None:
    # 35 x 35 pixels in one frame of two: medium, though the mean over both is below 32 x 32.
    large = np.zeros((2, 40, 60), dtype=np.bool_)
    large[0, :35, :35] = True
    found = average_precision([Instance.from_masks("1", large)], [Instance.from_masks("1", large)])
    assert found.ap50_by_size["medium"] == pytest.approx(1.0)
    assert math.isnan(found.ap50_by_size["small"])


def test_a_track_that_is_left_out_forgives_one_prediction() -> None:
    hidden = Instance.from_masks("1", squares(40), occlusion=0.9)
    twice = [track(40, score=0.9), track(40, score=0.8), track(0, score=0.7)]
    found = average_precision([track(0), hidden], twice, most_hidden=0.75)
    assert found.ap50 == pytest.approx(1 / 2)  # the second one is wrong, and ranks before the right one


def test_an_unknown_rate_is_in_no_range_but_counts() -> None:
    unknown = Instance.from_masks("1", squares(0), occlusion=math.nan)
    found = average_precision([unknown], [track(0)], most_hidden=0.75)
    assert (found.ap, found.instances) == (pytest.approx(1.0), 1)
    assert all(math.isnan(value) for value in found.ap50_by_occlusion.values())
