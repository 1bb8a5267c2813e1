"""Completion without learning: what a trained model is compared with."""

from amodal_diffusion.baselines.colors import copy_best_seen, fill_with_mean_color, fill_with_nearest
from amodal_diffusion.baselines.masks import (
    HullSegmenter,
    ModalSegmenter,
    NearerSegmenter,
    TemporalSegmenter,
    UnionSegmenter,
    convex_hulls,
)

__all__ = [
    "HullSegmenter",
    "ModalSegmenter",
    "NearerSegmenter",
    "TemporalSegmenter",
    "UnionSegmenter",
    "convex_hulls",
    "copy_best_seen",
    "fill_with_mean_color",
    "fill_with_nearest",
]
