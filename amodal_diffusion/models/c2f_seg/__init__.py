"""C2F-Seg (Gao et al., ICCV 2023): an amodal mask from coarse tokens, then a convolutional refinement."""

from amodal_diffusion.models.c2f_seg.config import C2FSampling, C2FSegConfig
from amodal_diffusion.models.c2f_seg.network import C2FSeg
from amodal_diffusion.models.c2f_seg.saving import load_c2f_seg, save_c2f_seg

__all__ = ["C2FSampling", "C2FSeg", "C2FSegConfig", "load_c2f_seg", "save_c2f_seg"]
