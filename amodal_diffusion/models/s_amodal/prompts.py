"""Prompt points: where SAM is told that the object is."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.boxes import tight_box
from amodal_diffusion.models.s_amodal.config import SAModalSampling
from amodal_diffusion.types import BoolArray


def select_points(mask: BoolArray, sampling: SAModalSampling, *, generator: torch.Generator) -> Tensor:
    """Draw points uniformly from a modal mask or from what erosion leaves of it; a mask too small stays whole.

    Args:
        mask: modal mask, bool ``[H, W]``.
        sampling: number of points and where they are.
        generator: draws them, with replacement; on the CPU.

    Returns:
        x and y in pixels, float32 ``[N, 2]``.

    Raises:
        InputError: if the mask is empty.
    """
    box = tight_box(mask)
    if box is None:
        raise InputError("mask: empty; expected at least one visible pixel to take a point from")
    top, left, bottom, right = box
    part = mask[top:bottom, left:right]
    if sampling.points == "erosion":
        square = np.ones((sampling.erosion, sampling.erosion), dtype=np.bool_)
        eroded = ndimage.binary_erosion(part, structure=square)  # outside of the box is background, also for scipy
        part = eroded if eroded.any() else part
    rows, columns = np.nonzero(part)
    drawn = torch.randint(len(rows), (sampling.num_points,), generator=generator).numpy()
    points = np.stack([columns[drawn] + left, rows[drawn] + top], axis=1)
    return torch.from_numpy(points.astype(np.float32))
