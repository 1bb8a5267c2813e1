"""Which families and how many occluders each split draws from; the splits share no shape and no texture family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from amodal_diffusion.data.scenes import (
    artefacts_train,
    barriers_train,
    figures_test,
    figures_train,
    shapes_test,
    shapes_train,
    shapes_validation,
    textures,
)
from amodal_diffusion.data.scenes.outlines import Family

Split = Literal["train", "validation", "test-v1"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Catalogue:
    """What the scenes of a split are made of.

    Attributes:
        key: number of the split in the entropy of its random streams.
        things: families of targets and of other objects.
        solids: families without holes, for occluders that hide a target entirely.
        barriers: families of occluders that are sized by the frame.
        textures: families of patterns, for objects and backgrounds.
        max_occluders: largest number of occluders that are aimed at the target.
        barrier_share: probability that an occluder is a barrier.
    """

    key: int
    things: tuple[Family, ...]
    solids: tuple[Family, ...]
    barriers: tuple[Family, ...]
    textures: tuple[textures.PatternFamily, ...]
    max_occluders: int
    barrier_share: float


CATALOGUES: dict[Split, Catalogue] = {
    "train": Catalogue(
        key=0,
        things=shapes_train.BODIES + figures_train.FIGURES + artefacts_train.ARTEFACTS,
        solids=shapes_train.SOLID,
        barriers=barriers_train.BARRIERS,
        textures=textures.TRAIN,
        max_occluders=5,
        barrier_share=0.35,
    ),
    "validation": Catalogue(
        key=1,
        things=shapes_validation.BODIES,
        solids=shapes_validation.SOLID,
        barriers=shapes_validation.BARRIERS,
        textures=textures.VALIDATION,
        max_occluders=5,
        barrier_share=0.35,
    ),
    "test-v1": Catalogue(
        key=2,
        things=shapes_test.THINGS + figures_test.MOVERS,
        solids=shapes_test.COVERS,
        barriers=figures_test.BARRIERS,
        textures=textures.TEST,
        max_occluders=4,
        barrier_share=0.35,
    ),
}
