"""Completion without learning: the bars that a trained model has to clear."""

from amodal_diffusion.baselines.best_seen import copy_best_seen
from amodal_diffusion.baselines.combined import NearerSegmenter, UnionSegmenter
from amodal_diffusion.baselines.hull import HullSegmenter, convex_hulls
from amodal_diffusion.baselines.modal import ModalSegmenter
from amodal_diffusion.baselines.protocol import AmodalSegmenter
from amodal_diffusion.baselines.temporal import TemporalSegmenter

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
