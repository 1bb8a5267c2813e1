"""Families that are made of other families, and small things that go with the target."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.synthetic import train_shapes
from amodal_diffusion.synthetic.catalogue import CATALOGUES, Catalogue
from amodal_diffusion.synthetic.layout import Actor, Layout, draw_layout
from amodal_diffusion.synthetic.motion import clock_of
from amodal_diffusion.synthetic.outlines import fit
from amodal_diffusion.synthetic.render import fill_shape, whole_mask
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.synthetic.train_composites import composites

FRAMES, CELLS = 4, 64
FAMILIES = {family.name: family for family in composites(train_shapes.BODIES)}


@pytest.mark.parametrize("name", FAMILIES)
def test_individuals_differ_and_can_be_seen(name: str) -> None:
    clock = clock_of(FRAMES)
    masks = []
    for number in range(12):
        parts = fit(FAMILIES[name].build(Rng(9, number), clock))
        placed = [type(part)((part.points + 0.5) * CELLS, part.hole, part.shade) for part in parts]
        masks.append(fill_shape(placed, frames=FRAMES, height=CELLS, width=CELLS))
        assert 0.01 < masks[-1].mean() <= 1.0, f"individual {number}"
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_mirrored_and_twins_are_the_same_on_both_sides() -> None:
    for name in ("mirrored", "twins"):
        shares = []
        for number in range(8):
            parts = fit(FAMILIES[name].build(Rng(9, number), clock_of(FRAMES)))
            placed = [type(part)((part.points + 0.5) * CELLS, part.hole, part.shade) for part in parts]
            mask = fill_shape(placed, frames=FRAMES, height=CELLS, width=CELLS)
            other = mask[..., ::-1]
            shares.append((mask & other).sum() / (mask | other).sum())
        assert np.mean(shares) > 0.85, name


def test_only_training_scenes_hold_small_things() -> None:
    assert CATALOGUES["train"].held_share > 0
    assert CATALOGUES["validation"].held_share == CATALOGUES["test-v1"].held_share == 0


def test_held_things_stay_before_the_body_of_their_object() -> None:
    catalogue = CATALOGUES["train"]
    always = Catalogue(**{**vars(catalogue), "held_share": 1.0})
    clock, touched = clock_of(8), 0
    for number in range(20):
        layout: Layout = draw_layout(Rng(9, number), always, mode="partial", clock=clock, aspect=2.0)
        aimed: list[Actor] = [
            actor for actor in layout.front if (actor.pose.size.mean() < 0.5 * layout.target.pose.size.mean())
        ]
        near = [
            actor
            for actor in aimed
            if bool((np.hypot(*(actor.pose.center - layout.target.pose.center).T) < layout.target.pose.size).all())
        ]
        assert near, f"layout {number}: nothing small stays with the target"
        body = whole_mask(layout.target, height=64, width=128)
        touched += any(bool((whole_mask(actor, height=64, width=128) & body).any()) for actor in near)
    assert touched > 15
