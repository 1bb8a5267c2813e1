"""SAMEO: SAM or EfficientSAM with a mask decoder that answers a box with the amodal mask."""

from amodal_diffusion.models.sameo.config import EfficientSamShape, SameoConfig, SameoSampling, SamShape
from amodal_diffusion.models.sameo.network import Sameo
from amodal_diffusion.models.sameo.saving import load_sameo, save_sameo

__all__ = ["EfficientSamShape", "SamShape", "Sameo", "SameoConfig", "SameoSampling", "load_sameo", "save_sameo"]
