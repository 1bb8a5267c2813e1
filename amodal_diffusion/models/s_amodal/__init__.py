"""S-AModal (Breitenstein et al.): SAM with adapters, asked by points, and a memory that moves hidden objects."""

from amodal_diffusion.models.s_amodal.config import SAModalConfig, SAModalSampling
from amodal_diffusion.models.s_amodal.network import SAModal
from amodal_diffusion.models.s_amodal.saving import load_s_amodal, save_s_amodal

__all__ = ["SAModal", "SAModalConfig", "SAModalSampling", "load_s_amodal", "save_s_amodal"]
