"""From scores to masks, on frames worked by hand: levels, thresholds, mask filters, consensus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal_diffusion.config import HIGHEST_THRESHOLD, MASK_FILTERS, BeyondPaper, MaskFilter, SamplingConfig
from amodal_diffusion.frames.transforms import Letterbox
from amodal_diffusion.pipelines.postprocessing import (
    LARGEST_GROWTH,
    ObjectStatistics,
    best_threshold,
    consensus,
    filter_mask,
    frame_threshold,
    hidden_score,
    mask_score,
    object_statistics,
    postprocess_mask,
)
from amodal_diffusion.pipelines.preprocessing import FrameInput, preprocess_mask
from amodal_diffusion.types import BoolArray, FloatArray

CONFIG = SamplingConfig(height=32, width=64, mask_threshold=0.5)


def mask(text: str) -> BoolArray:
    """A picture of one row: ``#`` is inside."""
    return np.array([[letter == "#" for letter in text]])


def depth(*values: float) -> FloatArray:
    """Depth of a picture of one row."""
    return np.array([values], np.float32)


def frame(modal: str | BoolArray, depth: FloatArray | None = None) -> FrameInput:
    """A black frame."""
    visible = mask(modal) if isinstance(modal, str) else modal
    return FrameInput(np.zeros((*visible.shape, 3), np.uint8), visible, depth)


def filtered(
    filters: tuple[MaskFilter, ...], frames: list[FrameInput], hidden: list[str], score: list[float] | None = None
) -> list[str]:
    """What filters leave of the hidden parts of a window; the removed pixels must be those that were counted."""
    statistics, depths = object_statistics(frames, ObjectStatistics())
    sure = torch.tensor([score or [1.0] * len(hidden[0])])
    left = []
    for now, text, known in zip(frames, hidden, depths, strict=True):
        kept, removed = filter_mask(
            mask(text), now, sure, filters, ObjectStatistics(statistics.largest_visible, known), reach=0
        )
        assert sum(removed.values()) == int(mask(text).sum()) - int(kept.sum())
        assert all(removed[name] == 0 for name in MASK_FILTERS if name not in filters)
        left.append("".join("#" if inside else "." for inside in kept[0]))
    return left


def test_the_depth_filter_keeps_pixels_behind_nearer_things() -> None:
    levels = depth(0.5, 0.5, 0.9, 0.1, 0.9, 0.5)
    assert filtered(("depth",), [frame("##....", levels)], ["..####"]) == ["..#.#."]
    assert filtered(("depth",), [frame("##....")], ["..####"]) == ["..####"]  # nothing is known without depth


def test_a_frame_that_shows_nothing_takes_the_depth_of_the_nearest_that_does() -> None:
    near, far = depth(0.8, 0.7, 0.9), depth(0.2, 0.1, 0.9)
    frames = [frame("#..", near), frame("...", near), frame("...", near), frame("#..", far)]
    assert filtered(("depth",), frames, ["...", "###", "###", "..."]) == ["...", "..#", "###", "..."]


def test_statistics_carry_over_to_later_windows() -> None:
    statistics, depths = object_statistics([frame("##.", depth(0.5, 0.5, 0.9))], ObjectStatistics())
    assert (statistics, depths) == (ObjectStatistics(2, 0.5), [0.5])
    empty = frame("...", depth(0.1, 0.5, 0.9))
    assert object_statistics([empty], statistics) == (statistics, [0.5])
    assert object_statistics([empty, frame("#..", depth(0.25, 0.5, 0.9))], statistics) == (
        ObjectStatistics(2, 0.25), [0.25, 0.25]
    )  # fmt: skip
    assert object_statistics([empty], ObjectStatistics()) == (ObjectStatistics(), [None])


def test_an_object_is_as_deep_as_the_farther_quarter_of_what_it_shows() -> None:
    _, depths = object_statistics([frame("#####", depth(0.1, 0.2, 0.3, 0.4, 0.5))], ObjectStatistics())
    assert depths == [pytest.approx(0.2)]


def test_the_components_filter_removes_what_is_not_connected() -> None:
    assert filtered(("components",), [frame(".#....")], ["#.#.##"]) == ["#.#..."]
    assert filtered(("components",), [frame("......")], ["#.##.#"]) == ["..##.."]  # nothing visible: the largest
    hidden, _ = filter_mask(
        mask("....##"), frame("###..."), np.ones((1, 6), np.float32), ("components",),
        ObjectStatistics(3), reach=1,
    )  # fmt: skip
    assert np.array_equal(hidden, mask("....##"))  # over a gap of one pixel


def test_the_area_filter_removes_the_least_sure_pixels() -> None:
    assert LARGEST_GROWTH == 4
    frames = [frame("#........"), frame("#........")]
    sure = [0.0, 0.9, 0.8, 0.1, 0.7, 0.6, 0.2, 0.3, 0.0]
    assert filtered(("area",), frames, [".#######.", ".##......"], sure) == [".##.##...", ".##......"]
    assert filtered(("area",), [frame(".........")], ["#########"], sure) == ["." * 9]  # it was never visible


def test_filters_work_together_in_order_and_none_does_nothing() -> None:
    seen = [frame("#.....", depth(0.5, 0.9, 0.1, 0.9, 0.9, 0.9))]
    assert filtered(("depth", "components"), seen, [".#####"]) == [".#...."]  # the gap is the depth filter's
    assert filtered(("components",), seen, [".#####"]) == [".#####"]
    assert filtered((), seen, [".#####"]) == [".#####"]


def test_scores_are_the_mean_of_8_bit_levels() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 5, 7))
    video = torch.from_numpy(levels).float() / 127.5 - 1
    nudged = video + 0.3 / 127.5  # less than half a level
    for given in (video, nudged):
        np.testing.assert_allclose(mask_score(given).numpy() * 765, levels.sum(axis=0), atol=1e-3)
    assert mask_score(torch.full((3, 1, 1), 9.0)).item() == 1  # clipped
    assert mask_score(torch.full((3, 1, 1), -9.0)).item() == 0


def test_the_papers_threshold_is_a_sum_of_levels_above_600() -> None:
    levels = torch.tensor([[200, 200, 200], [200, 201, 200], [255, 255, 90], [255, 255, 91]])
    scores = mask_score((levels.float() / 127.5 - 1)[:, :, None, None])[:, 0, 0]
    assert (scores > 200 / 255).tolist() == [False, True, False, True]


def test_scaling_makes_no_rim_around_the_visible_part_and_no_gap_beside_it() -> None:
    rows, columns = np.mgrid[:70, :150]
    distance = np.hypot(rows - 35.0, columns - 70.0)
    disc = distance < 20.0
    visible = disc & (columns < 75)
    config = replace(CONFIG, mask_threshold=0.3, beyond=BeyondPaper(mask_filters=MASK_FILTERS))
    for truth in (visible, disc):  # a perfect network's answer
        shown = frame(visible)
        score = (preprocess_mask(truth, shown.geometry(config))[0, 0] + 1) / 2
        result, _ = postprocess_mask(score, shown, config, ObjectStatistics(int(visible.sum())))
        if truth is visible:
            assert np.array_equal(result, visible)
        else:
            assert (result & truth).sum() > 0.97 * truth.sum()
            assert result[distance < 17.0].all()


def test_a_hidden_score_is_the_share_of_what_the_visible_part_leaves_free() -> None:
    geometry = Letterbox((8, 8), (4, 4))
    visible = np.zeros((8, 8), np.bool_)
    visible[:, :4] = True
    half = torch.full((4, 4), 0.5)
    half[:, :2] = 1.0
    free = hidden_score(half, visible, geometry)
    assert free[:, 4:] == pytest.approx(0.5)  # also where scaling blurs the visible part over its neighbors


@pytest.mark.parametrize("least", [0.2, 0.5])
def test_each_frame_may_have_its_own_threshold(least: float) -> None:
    visible = np.zeros((2, 10), np.bool_)
    visible[0] = True
    free = torch.full((2, 10), 0.35)
    given = replace(CONFIG, mask_threshold=least)
    own = replace(given, beyond=BeyondPaper(expected_iou_weight=0.0))
    assert frame_threshold(free, visible, given) == least
    assert (free > frame_threshold(free, visible, own)).all() == (least < 0.35)


def expected_iou(likely: np.ndarray, threshold: float, known: float) -> float:
    taken = likely > threshold
    return float((likely[taken].sum() + known) / (taken.sum() + likely[~taken].sum() + known))


def test_a_sure_network_is_cut_at_a_half() -> None:
    likely = np.asarray([0.99] * 20 + [0.01] * 80, dtype=np.float32)
    assert (likely > best_threshold(likely, 0, weight=0.0, least=0.2)).sum() == 20


def test_of_a_vague_shape_more_is_taken_unless_the_visible_part_counts() -> None:
    likely = np.full(50, 0.35, dtype=np.float32)
    assert (likely > best_threshold(likely, 1000, weight=0.0, least=0.2)).all()  # 0.35 is more than nothing
    assert not (likely > best_threshold(likely, 1000, weight=1.0, least=0.2)).any()  # adding costs more than it gives


def test_nothing_likely_is_nothing_taken() -> None:
    assert best_threshold(np.full(9, 0.1, dtype=np.float32), 5, weight=0.0, least=0.2) == HIGHEST_THRESHOLD
    assert best_threshold(np.zeros(0, dtype=np.float32), 5, weight=0.0, least=0.2) == HIGHEST_THRESHOLD


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_no_other_threshold_is_better(weight: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        likely = (rng.random(60) ** rng.uniform(0.5, 4)).astype(np.float32)
        visible = int(rng.integers(0, 60))
        found = best_threshold(likely, visible, weight=weight, least=0.2)
        assert 0.2 <= found <= HIGHEST_THRESHOLD
        others = [expected_iou(likely, level, weight * visible) for level in np.linspace(0.2, HIGHEST_THRESHOLD, 31)]
        assert expected_iou(likely, found, weight * visible) >= max(others) - 1e-6


def test_most_samples_decide_and_the_first_where_they_are_even() -> None:
    samples = np.array([[[1, 1, 0, 0]], [[1, 0, 1, 0]], [[0, 1, 1, 0]]], np.bool_)
    assert consensus(samples).tolist() == [[True, True, True, False]]
    assert np.array_equal(consensus(samples[:2]), samples[0])
    assert np.array_equal(consensus(samples[1:2]), samples[1])
