"""Shape families, textures and occluder statistics of each split; no family occurs in two splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from amodal_diffusion.synthetic import (
    heldout_articulated,
    heldout_bodies,
    heldout_rigid,
    textures,
    train_articulated,
    train_composites,
    train_occluders,
    train_shapes,
    validation_shapes,
)
from amodal_diffusion.synthetic.outlines import Family

Split = Literal["train", "validation", "test-v1"]
TRAIN_VERSION = 2  # raised whenever the training scenes change, because a seed then gives another scene
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Catalogue:
    """Content distribution of a split.

    Attributes:
        key: number of the split, part of the entropy of all its random streams.
        targets: families of targets.
        things: families of all other objects.
        solids: families without holes, which can hide a target entirely.
        occluders: families sized relative to the frame, such as fences and walls.
        textures: pattern families of objects and backgrounds.
        max_occluders: largest number of occluders aimed at the target; one more object may be in front by chance.
        occluder_share: probability that an occluder aimed at the target is one of `occluders`.
        relative_size: smallest and largest size of the other aimed occluders, as a multiple of the target's size.
        held_share: probability that all aimed occluders are small, in front of the target, and move with it.
    """

    key: int
    targets: tuple[Family, ...]
    things: tuple[Family, ...]
    solids: tuple[Family, ...]
    occluders: tuple[Family, ...]
    textures: tuple[textures.PatternFamily, ...]
    max_occluders: int
    occluder_share: float
    relative_size: tuple[float, float]
    held_share: float = 0.0


_SIMPLE = train_shapes.BODIES + train_articulated.FIGURES + train_composites.MANUFACTURED

CATALOGUES: dict[Split, Catalogue] = {
    "train": Catalogue(
        key=0,
        targets=_SIMPLE + train_composites.composites(_SIMPLE),
        things=_SIMPLE + train_composites.composites(_SIMPLE),
        solids=train_shapes.SOLID,
        occluders=train_occluders.OCCLUDERS,
        textures=textures.TRAIN,
        max_occluders=5,
        occluder_share=0.45,
        relative_size=(0.5, 1.8),
        held_share=0.15,
    ),
    "validation": Catalogue(
        key=1,
        targets=validation_shapes.BODIES,
        things=validation_shapes.BODIES,
        solids=validation_shapes.SOLID,
        occluders=validation_shapes.OCCLUDERS,
        textures=textures.VALIDATION,
        max_occluders=5,
        occluder_share=0.35,
        relative_size=(0.5, 1.8),
    ),
    "test-v1": Catalogue(
        key=2,
        targets=heldout_bodies.BODIES + heldout_rigid.THINGS + heldout_articulated.MOVERS,
        things=heldout_bodies.BODIES
        + heldout_rigid.THINGS
        + heldout_rigid.THIN
        + heldout_articulated.MOVERS
        + heldout_articulated.THIN,
        solids=heldout_rigid.COVERS,
        occluders=heldout_articulated.OCCLUDERS,
        textures=textures.TEST,
        max_occluders=3,
        occluder_share=0.7,
        relative_size=(0.35, 1.3),
    ),
}
