"""Completion without learning: the bars that a trained model has to clear."""

from amodal_diffusion.baselines.hull import HullSegmenter, convex_hulls
from amodal_diffusion.baselines.modal import ModalSegmenter
from amodal_diffusion.baselines.nearer import NearerHullSegmenter, nearer_pixels
from amodal_diffusion.baselines.protocol import AmodalSegmenter

__all__ = [
    "AmodalSegmenter",
    "HullSegmenter",
    "ModalSegmenter",
    "NearerHullSegmenter",
    "convex_hulls",
    "nearer_pixels",
]
