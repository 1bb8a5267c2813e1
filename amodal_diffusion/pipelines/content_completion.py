"""Stage 2: modal RGB + amodal mask -> amodal RGB."""

from __future__ import annotations

from typing import ClassVar

from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.types import Stage


class ContentCompletionPipeline(ConditionedVideoPipeline):
    """``modal`` is the visible part on white, RGB in [-1, 1]; ``guide`` is the amodal mask, -1 outside and 1 inside."""

    stage: ClassVar[Stage | None] = "content_completion"
