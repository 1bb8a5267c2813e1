"""Generated clips with complete ground truth, and corruptions of masks and depth."""

from amodal_diffusion.synthetic.catalogue import Split
from amodal_diffusion.synthetic.scenes import Scene, SceneTrack, make_scene

__all__ = ["Scene", "SceneTrack", "Split", "make_scene"]
