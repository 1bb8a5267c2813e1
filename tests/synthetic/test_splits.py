"""test-v1 is what it was when it was frozen."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from amodal_diffusion.baselines import convex_hulls
from amodal_diffusion.metrics import score_track, summarise
from amodal_diffusion.synthetic import Scene
from amodal_diffusion.synthetic.splits import (
    choose_seeds,
    digest_of_test_v1,
    hidden_shares,
    make_test_v1,
    mask_digest,
    seeds_of_test_v1,
)


@functools.cache
def _scenes() -> tuple[Scene, ...]:
    return tuple(make_test_v1(with_rgb=False))


def test_masks_are_the_frozen_ones() -> None:
    assert mask_digest(_scenes()) == digest_of_test_v1()


def test_hidden_shares_are_spread_as_promised() -> None:
    shares = [hidden_shares(scene) for scene in _scenes()]
    means = np.asarray([share.mean() for share in shares])
    assert len(means) == 200
    assert (means == 0).sum() == 20
    assert sum(bool((share == 1).any()) for share in shares) == 20
    hidden = means[means > 0]
    assert hidden.min() >= 0.1
    assert hidden.max() < 0.7
    assert np.histogram(hidden, np.linspace(0.1, 0.7, 7))[0].min() >= 15


def test_the_hull_is_neither_hopeless_nor_enough() -> None:
    targets = [scene.target for scene in _scenes()]
    scores = [score_track(convex_hulls(target.modal), target.modal, target.amodal) for target in targets]
    assert 0.33 <= summarise(scores).miou_occ.value <= 0.45


@pytest.mark.slow
def test_the_list_of_seeds_can_be_made_again() -> None:
    assert tuple(choose_seeds()) == seeds_of_test_v1()
