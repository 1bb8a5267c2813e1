"""Stage 1: modal mask + depth -> amodal mask."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.types import Stage


class AmodalSegmentationPipeline(ConditionedVideoPipeline):
    """``modal`` is the modal mask, -1 outside and 1 inside; ``guide`` is depth in [-1, 1], nearer is larger."""

    stage: ClassVar[Stage | None] = "amodal_segmentation"


def mask_score(video: Tensor) -> Tensor:
    """How strongly each pixel is taken for the object: the mean of the channels as 8-bit levels, 0 to 1.

    The reference's rule, mask = score above 200/255, is applied to this (docs/method.md, section 5).

    Args:
        video: float ``[..., 3, H, W]`` in [-1, 1].

    Returns:
        float32 ``[..., H, W]`` in [0, 1], in steps of 1/765.
    """
    levels = ((video.float() + 1.0) * 127.5).clamp(0.0, 255.0).round()
    return levels.sum(dim=-3) / 765.0
