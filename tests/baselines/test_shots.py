"""Baselines that compare frames keep to a shot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amodal_diffusion.baselines import TemporalSegmenter, copy_best_seen
from amodal_diffusion.types import VideoClip
from tests.factories import moving_square

CUT = 5


def test_temporal_baselines_keep_to_a_shot() -> None:
    first, second = (moving_square(CUT, seed=seed) for seed in (0, 1))
    modal = first.modal_mask.copy()
    modal[2:, 9:12] = False
    rgb = np.concatenate([first.rgb, second.rgb[:, ::-1] // 2 + 120])
    both = VideoClip(rgb, np.concatenate([modal, second.modal_mask[:, ::-1]]), cuts=(CUT,))
    alone = replace(both, rgb=rgb[:CUT], modal_mask=modal, cuts="none")
    depth = np.random.default_rng(0).random(both.modal_mask.shape, dtype=np.float32)
    for given in (None, depth):
        found = TemporalSegmenter()(both, given).mask
        assert np.array_equal(found[:CUT], TemporalSegmenter()(alone, None if given is None else given[:CUT]).mask)
    assert np.array_equal(TemporalSegmenter()(replace(both, cuts="auto"), depth).mask, found)
    whole = np.concatenate([first.modal_mask, second.modal_mask[:, ::-1]])
    painted = copy_best_seen(both, whole, None)
    assert np.array_equal(painted[:CUT], copy_best_seen(alone, first.modal_mask, None))
    # A shot without the object: its masks stay empty, and hidden pixels get the mean color of the clip
    unseen = replace(both, modal_mask=np.concatenate([modal, np.zeros_like(modal)]))
    assert not TemporalSegmenter()(unseen, None).mask[CUT:].any()
    mean = np.rint(rgb[:CUT][modal].mean(axis=0))
    assert (copy_best_seen(unseen, whole, None)[CUT:][whole[CUT:]] == mean).all()
