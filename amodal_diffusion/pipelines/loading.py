"""A model's stages as pipelines on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from amodal_diffusion.models.hub import check_names_stages, find_model, load_stage
from amodal_diffusion.models.weights import find_device
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.denoising import Conditioning
from amodal_diffusion.types import STAGES, InputError, Stage


@dataclass(frozen=True)
class LoadedStages:
    """What was loaded.

    Attributes:
        segmentation: stage 1; None if it was not asked for.
        content: stage 2; None if it was not asked for.
        depth_model: the depth network that stage 1 was trained on, if any.
    """

    segmentation: AmodalSegmentationPipeline | None
    content: ContentCompletionPipeline | None
    depth_model: str | None


def load_stages(
    model: str | Path,
    *,
    content_model: str | Path | None,
    stages: Sequence[Stage],
    conditioning: Conditioning,
    device: str,
    dtype: str,
) -> LoadedStages:
    """Load stages without progress bars; the arguments are those of :meth:`AmodalCompleter.from_pretrained`.

    Raises:
        InputError: if the model cannot be loaded or device or dtype is unknown.
    """
    where = find_device(device)
    precision = _dtype(dtype, where)
    if set(STAGES) <= set(stages) and content_model is None:
        check_names_stages(find_model(model))
    segmentation = content = depth_model = None
    if "amodal_segmentation" in stages:
        components = load_stage(find_model(model), stage="amodal_segmentation", dtype=precision)
        depth_model = components.settings.depth_model
        segmentation = AmodalSegmentationPipeline.from_components(components, conditioning=conditioning)
    if "content_completion" in stages:
        folder = find_model(model if content_model is None else content_model)
        components = load_stage(folder, stage="content_completion", dtype=precision)
        content = ContentCompletionPipeline.from_components(components, conditioning=conditioning)
    for pipeline in (segmentation, content):
        if pipeline is not None:
            pipeline.to(where)
            pipeline.set_progress_bar_config(disable=True)
    return LoadedStages(segmentation, content, depth_model)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name not in known:
        raise InputError(f"dtype: expected auto, {', '.join(known)}, got {name}")
    return known[name]
