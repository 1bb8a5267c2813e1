"""A tiny checkpoint of each method of stage 1, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from amodal_diffusion.models.c2f_seg import C2FSeg, save_c2f_seg
from amodal_diffusion.models.s_amodal import SAModal
from amodal_diffusion.models.s_amodal.saving import save_s_amodal
from amodal_diffusion.models.sameo import Sameo, save_sameo
from amodal_diffusion.models.saving import save_model
from tests.c2f_seg import SMALL
from tests.factories import SAMPLING, tiny_components
from tests.s_amodal import TINY as S_AMODAL
from tests.sameo import TINY as SAMEO


def write_diffusion(folder: Path) -> None:
    """Write stage 1 alone: windows of 4 frames of 16 x 32 pixels, one step."""
    parts = tiny_components()
    sampling = SAMPLING.changed({"height": 16, "width": 32, "num_inference_steps": 1})
    save_model([replace(parts, settings=replace(parts.settings, sampling=sampling))], folder)


WRITE: dict[str, Callable[[Path], None]] = {
    "diffusion": write_diffusion,
    "c2f-seg": lambda folder: save_c2f_seg(C2FSeg(SMALL), folder),
    "s-amodal": lambda folder: save_s_amodal(SAModal(S_AMODAL), folder),
    "sameo": lambda folder: save_sameo(Sameo(SAMEO), folder),
}
"""Writes a checkpoint of a method into a folder that does not exist yet, by name of the method."""
