"""Placement of occluders: the drawn rate is reached or the pair rejected, scale, paste."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.occlusion import (
    Cutout,
    OcclusionRule,
    Placement,
    cut_out,
    paste,
    place_occluder,
    scale_cutout,
    shift_mask,
)
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray

RULE = OcclusionRule()


def shape(rng: np.random.Generator, size: int = 128) -> BoolArray:
    """A random ellipse, rectangle or triangle."""
    height, width = rng.uniform(14, 34, 2)
    y, x = np.mgrid[:size, :size]
    down, right = (y - rng.uniform(45, 83)) / height, (x - rng.uniform(45, 83)) / width
    inside = (
        (abs(down) < 1) & (abs(right) < 1),
        down**2 + right**2 < 1,
        (abs(down) < 1) & (abs(right) < (1 + down) / 2),
    )
    return np.asarray(inside[rng.integers(3)])


def test_nearly_all_pairs_reach_the_drawn_rate_and_none_misses_it() -> None:
    drawing, placed, worst = np.random.default_rng(0), 0, 0.0
    for number in range(200):
        target, other = shape(drawing), shape(drawing)
        rng = Rng(1, number)
        rgb = np.zeros((*other.shape, 3), dtype=np.uint8)
        cutout = scale_cutout(cut_out(rgb, other), int(target.sum()), rng.uniform(*RULE.scale), RULE)
        found = None if cutout is None else place_occluder(target, cutout.mask, RULE, rng=rng)
        if found is None or cutout is None:
            continue  # rejected
        placed += 1
        there = shift_mask(cutout.mask, found.row, found.column, (128, 128))
        rate = float((target & there).sum() / target.sum())
        assert rate == pytest.approx(found.rate)
        assert RULE.rate[0] <= found.drawn_rate <= RULE.rate[1]
        worst = max(worst, abs(rate - found.drawn_rate))
    assert placed >= 190
    assert worst <= 0.05


def test_an_occluder_that_cannot_hide_enough_is_rejected() -> None:
    target = np.zeros((64, 64), dtype=np.bool_)
    target[10:50, 10:50] = True
    small = np.ones((10, 10), dtype=np.bool_)  # hides 100 of 1600 pixels at most
    assert place_occluder(target, small, RULE, rng=Rng(0)) is None
    assert place_occluder(np.zeros_like(target), small, RULE, rng=Rng(0)) is None
    large = np.ones((40, 40), dtype=np.bool_)
    assert place_occluder(target, large, RULE, rng=Rng(0)) == place_occluder(target, large, RULE, rng=Rng(0))


def test_an_occluder_is_scaled_by_the_targets_area_with_its_aspect_kept() -> None:
    cutout = Cutout(np.full((20, 40, 3), 7, dtype=np.uint8), np.ones((20, 40), dtype=np.bool_))
    scaled = scale_cutout(cutout, 200, 1.0, RULE)
    assert scaled is not None
    assert scaled.mask.shape == (10, 20)
    assert scaled.mask.all()
    assert (scaled.rgb == 7).all()
    assert scale_cutout(cutout, 800 * 5, 1.0, RULE) is None  # would be enlarged by more than 2


def test_pasting_changes_no_pixel_outside_the_occluder() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    cutout = Cutout(rng.integers(0, 255, (11, 12, 3), dtype=np.uint8), np.ones((11, 12), dtype=np.bool_))
    cutout.mask[:3, :3] = False
    for row, column in ((5, 6), (-4, 33), (25, -7), (100, 3), (-50, -50)):
        place = Placement(row, column, 0.0, 0.0)
        there = shift_mask(cutout.mask, row, column, (30, 40))
        for feather in (0.0, 1.0):
            pasted = paste(rgb, cutout, place, feather=feather)
            assert np.array_equal(pasted[~there], rgb[~there])
    hard, soft = (paste(rgb, cutout, Placement(5, 6, 0, 0), feather=feather) for feather in (0.0, 1.0))
    assert np.array_equal(hard[8:16, 9:18], cutout.rgb[3:, 3:])
    assert np.array_equal(soft[9:15, 10:17], cutout.rgb[4:10, 4:11])
    edge = (rgb[15, 10].astype(int) + cutout.rgb[10, 4].astype(int)) / 2
    assert np.abs(soft[15, 10] - edge).max() <= 0.5


def test_ranges_that_are_empty_are_refused() -> None:
    with pytest.raises(InputError, match="occlusion: expected 0 < least <= largest"):
        replace(RULE, rate=(0.5, 0.2))
    with pytest.raises(InputError, match="mask: expected at least one pixel"):
        cut_out(np.zeros((2, 2, 3), dtype=np.uint8), np.zeros((2, 2), dtype=np.bool_))
