"""Completes partly hidden objects in video: the whole mask and the whole appearance of each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amodal_diffusion.models.depth import DepthEstimator
    from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
    from amodal_diffusion.pipelines.completer import AmodalCompleter
    from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
    from amodal_diffusion.types import AmodalResult, InputError, VideoClip

__all__ = [
    "AmodalCompleter",
    "AmodalResult",
    "AmodalSegmentationPipeline",
    "ContentCompletionPipeline",
    "DepthEstimator",
    "InputError",
    "VideoClip",
]

_HOME = {
    "AmodalCompleter": "amodal_diffusion.pipelines.completer",
    "AmodalResult": "amodal_diffusion.types",
    "AmodalSegmentationPipeline": "amodal_diffusion.pipelines.amodal_segmentation",
    "ContentCompletionPipeline": "amodal_diffusion.pipelines.content_completion",
    "DepthEstimator": "amodal_diffusion.models.depth",
    "InputError": "amodal_diffusion.types",
    "VideoClip": "amodal_diffusion.types",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `amodal-diffusion --help` does not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names, which are not attributes until they are used."""
    return sorted(__all__)
