"""Corrupted scenes: what stays true of them, how far they are off, and what they depend on."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from amodal_diffusion.data.samples import AmodalSample, SceneCorruption, SceneDataset, with_modal
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.frames.transforms import depth_to_unit
from amodal_diffusion.synthetic.corruptions import corrupt_depth, corrupt_masks, draw_depth_curve
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray

ALL = SceneCorruption(corrupted_share=1.0)


def _dataset(change: SceneCorruption | None, *, length: int = 12, with_rgb: bool = False) -> SceneDataset:
    return SceneDataset("train", length=length, frames=6, height=64, width=128, with_rgb=with_rgb, change=change)


def _disc(frames: int = 8) -> BoolArray:
    rows, columns = np.mgrid[:64, :128]
    return np.repeat(((rows - 30) ** 2 + (columns - 60) ** 2 < 15**2)[None], frames, axis=0)


def _same(one: AmodalSample, other: AmodalSample) -> bool:
    return all(np.array_equal(getattr(one, entry.name), getattr(other, entry.name)) for entry in fields(AmodalSample))


def test_a_corrupted_clip_still_makes_sense() -> None:
    for exact, sample in zip(_dataset(None, with_rgb=True), _dataset(ALL, with_rgb=True), strict=True):
        assert sample.name == exact.name
        assert sample.modal.any()
        thin = sample.name == "train-000009"  # whose frames would lose more than a third, and so stay as they are
        assert (sample.modal != exact.modal).any() != thin
        assert not (sample.modal & ~sample.amodal).any()
        assert not (exact.amodal & ~sample.amodal).any()
        assert not sample.modal[~exact.modal.any(axis=(1, 2))].any()
        assert sample.depth is not None
        assert np.ptp(depth_to_unit(sample.depth).numpy()) == 2.0
        assert sample.rgb is not None
        assert sample.whole_rgb is not None
        assert exact.whole_rgb is not None
        np.testing.assert_array_equal(sample.rgb, exact.rgb)
        added = sample.amodal & ~exact.amodal
        np.testing.assert_array_equal(sample.whole_rgb[added], sample.rgb[added])
        np.testing.assert_array_equal(sample.whole_rgb[~added], exact.whole_rgb[~added])


def test_what_is_drawn_follows_from_the_clip_alone() -> None:
    first, second = _dataset(ALL), _dataset(ALL, length=100, with_rgb=True)
    late = second[7]
    np.testing.assert_array_equal(first[7].modal, late.modal)
    np.testing.assert_array_equal(first[7].depth, late.depth)
    assert (first[7].modal != first[8].modal).any()


def test_shares_are_kept_and_grow_by_clips() -> None:
    exact = list(_dataset(None, length=24))
    half, most = (list(_dataset(SceneCorruption(share, share), length=24)) for share in (0.5, 0.8))
    for samples, share in ((half, 0.5), (most, 0.8)):
        depthless = sum(sample.depth is None for sample in samples)
        corrupted = sum(bool((a.modal != b.modal).any()) for a, b in zip(samples, exact, strict=True))
        assert abs(depthless / 24 - share) < 0.2
        assert abs(corrupted / 24 - share) < 0.2
    for plain, one, other in zip(exact, half, most, strict=True):
        if one.depth is None:
            assert other.depth is None
        if (one.modal != plain.modal).any():
            np.testing.assert_array_equal(other.modal, one.modal)
    assert all(_same(a, b) for a, b in zip(exact, _dataset(SceneCorruption(), length=24), strict=True))


def test_borders_are_off_by_few_pixels_and_not_anew_each_frame() -> None:
    disc = _disc()
    rows, columns = np.mgrid[:64, :128]
    radius = np.hypot(rows - 30, columns - 60)
    flips, missed, holes = [], 0, 0
    for seed in range(60):
        rough = corrupt_masks(disc, Rng(seed))
        assert not rough[:, radius > 20].any()
        seen = rough[rough.any(axis=(1, 2))]
        missed += len(rough) - len(seen)
        holes += bool((~seen & (radius < 10)).any())
        off = seen != disc[: len(seen)]
        assert off.any()
        flips.append((off[1:] != off[:-1]).sum() / max(1, off[1:].sum() + off[:-1].sum()))
    assert 1 <= missed <= 15
    assert 10 <= holes <= 50
    assert np.mean(flips) < 0.7  # 1 where no error is seen twice


def test_hard_masks_survive() -> None:
    line = np.zeros((5, 32, 64), dtype=bool)
    line[:, 10, 5:60] = True
    dot = np.zeros((5, 32, 64), dtype=bool)
    dot[2, 31, 63] = True
    empty = np.zeros((5, 32, 64), dtype=bool)
    for seed in range(20):
        assert corrupt_masks(line, Rng(seed)).any(axis=(1, 2)).sum() >= 4
        assert corrupt_masks(dot, Rng(seed)).any(axis=(1, 2)).tolist() == [False, False, True, False, False]
        assert not corrupt_masks(empty, Rng(seed)).any()


def test_what_spills_over_is_part_of_the_whole() -> None:
    amodal = _disc(1)
    rgb = np.full((1, 64, 128, 3), 7, dtype=np.uint8)
    sample = AmodalSample("one", amodal, amodal, None, rgb, cut_out_on_white(np.zeros_like(rgb), amodal))
    modal = np.roll(amodal, 1, axis=2)
    spilt = with_modal(sample, modal)
    np.testing.assert_array_equal(spilt.amodal, amodal | modal)
    assert spilt.whole_rgb is not None
    assert (spilt.whole_rgb[modal & ~amodal] == 7).all()
    assert (spilt.whole_rgb[amodal] == 0).all()
    assert (spilt.whole_rgb[~spilt.amodal] == 255).all()
    assert not (sample.modal & ~amodal).any()


def test_depth_keeps_its_range_and_roughly_its_order() -> None:
    ramp = np.repeat(np.linspace(3.0, 9.0, 64, dtype=np.float32)[None, :, None], 4, axis=0).repeat(32, axis=2)
    likeness = []
    for seed in range(60):
        depth = corrupt_depth(ramp, Rng(seed))
        assert depth.dtype == np.float32
        assert depth.shape == ramp.shape
        assert 0.0 <= depth.min() < depth.max() <= 1.0
        rows = depth.mean(axis=(0, 2))
        assert rows[:16].mean() < rows[24:40].mean() < rows[48:].mean()
        likeness.append(float(np.abs(depth - (ramp - 3.0) / 6.0).mean()))
    assert max(likeness) > 0.2  # strongly bent, as by way of a distance
    flat = np.full((2, 8, 8), 0.5, dtype=np.float32)
    np.testing.assert_array_equal(corrupt_depth(flat, Rng(0)), flat)


@pytest.mark.parametrize("seed", range(20))
def test_scales_rise_from_end_to_end(seed: int) -> None:
    values = draw_depth_curve(Rng(seed))(np.linspace(0.0, 1.0, 50, dtype=np.float32))
    assert values[0] == 0.0
    assert values[-1] == pytest.approx(1.0)
    assert (np.diff(values) > 0).all()


def test_scales_are_of_all_kinds() -> None:
    middles = [float(draw_depth_curve(Rng(seed))(np.array([0.5], dtype=np.float32))[0]) for seed in range(60)]
    assert min(middles) < 0.25
    assert max(middles) > 0.75
    assert middles.count(0.5) > 5
