"""The dataset of scenes: what an item depends on, and that test-v1 is the frozen one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.samples import SceneDataset
from amodal_diffusion.synthetic import Split
from amodal_diffusion.synthetic.splits import make_test_v1


def _dataset(split: Split = "train", *, length: int = 4, with_rgb: bool = False, seed: int = 0) -> SceneDataset:
    return SceneDataset(split, length=length, frames=4, height=32, width=64, with_rgb=with_rgb, seed=seed)


def test_an_item_does_not_depend_on_length_order_or_rgb() -> None:
    first, second = _dataset(), _dataset(length=100, with_rgb=True)
    late, early = second[3], second[0]
    np.testing.assert_array_equal(first[0].amodal, early.amodal)
    np.testing.assert_array_equal(first[3].amodal, late.amodal)
    assert first[3].name == late.name
    assert first[3].rgb is None
    assert late.rgb is not None
    assert late.whole_rgb is not None


def test_seeds_and_items_differ() -> None:
    items = [_dataset(seed=seed)[index] for seed in (0, 1) for index in (0, 1)]
    for one, other in itertools.combinations(items, 2):
        assert one.name != other.name
        assert (one.amodal != other.amodal).any()


def test_it_iterates_and_ends() -> None:
    dataset = _dataset(length=2)
    assert len(list(dataset)) == len(dataset) == 2
    with pytest.raises(IndexError):
        dataset[2]


def test_its_test_v1_is_the_frozen_one() -> None:
    dataset = SceneDataset("test-v1", length=3, frames=16, height=64, width=128, with_rgb=False)
    for sample, scene in zip(dataset, make_test_v1(with_rgb=False), strict=False):
        np.testing.assert_array_equal(sample.modal, scene.target.modal)
        np.testing.assert_array_equal(sample.amodal, scene.target.amodal)


def test_nothing_else_passes_for_test_v1() -> None:
    with pytest.raises(InputError, match="test-v1 is fixed: expected 16 frames of 64 x 128"):
        _dataset("test-v1")
    with pytest.raises(InputError, match="length: test-v1 has 200 clips, got 201"):
        SceneDataset("test-v1", length=201, frames=16, height=64, width=128, with_rgb=False)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match="length: expected"):
        _dataset(length=0)
    with pytest.raises(InputError, match="seed: expected"):
        _dataset(seed=-1)
