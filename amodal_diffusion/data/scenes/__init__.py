"""Procedural clips with complete ground truth."""

from amodal_diffusion.data.scenes.catalogue import Split
from amodal_diffusion.data.scenes.generate import Scene, SceneTrack, make_scene

__all__ = ["Scene", "SceneTrack", "Split", "make_scene"]
