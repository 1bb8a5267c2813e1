"""Completion without learning: the bars that a trained model has to clear."""

from amodal_diffusion.baselines.colors import copy_best_seen
from amodal_diffusion.baselines.masks import (
    AmodalSegmenter,
    HullSegmenter,
    ModalSegmenter,
    NearerSegmenter,
    TemporalSegmenter,
    UnionSegmenter,
    convex_hulls,
)

__all__ = [
    "AmodalSegmenter",
    "HullSegmenter",
    "ModalSegmenter",
    "NearerSegmenter",
    "TemporalSegmenter",
    "UnionSegmenter",
    "convex_hulls",
    "copy_best_seen",
]
