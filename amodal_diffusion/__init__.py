"""Completes partly hidden objects in video: the whole mask and the whole appearance of each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__: str

if TYPE_CHECKING:
    from amodal_diffusion.basics import InputError
    from amodal_diffusion.completion.batch import complete_many
    from amodal_diffusion.completion.clip_work import ClipRecord
    from amodal_diffusion.completion.run_options import RunOptions
    from amodal_diffusion.completion.storage_options import StorageOptions
    from amodal_diffusion.config import BeyondPaper, SamplingConfig
    from amodal_diffusion.frames.crop import crop_centers
    from amodal_diffusion.frames.drawing import draw_result, show_result
    from amodal_diffusion.io.clip_files import read_objects
    from amodal_diffusion.models.acceleration import Acceleration
    from amodal_diffusion.models.depth import DepthEstimator
    from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
    from amodal_diffusion.pipelines.completer import AmodalCompleter, ObjectStream
    from amodal_diffusion.pipelines.completion_config import CompletionConfig
    from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
    from amodal_diffusion.pipelines.online import OnlineCompleter, OnlineFrame
    from amodal_diffusion.pipelines.preprocessing import FrameInput
    from amodal_diffusion.types import AmodalResult, VideoClip

__all__ = [
    "Acceleration",
    "AmodalCompleter",
    "AmodalResult",
    "AmodalSegmentationPipeline",
    "BeyondPaper",
    "ClipRecord",
    "CompletionConfig",
    "ContentCompletionPipeline",
    "DepthEstimator",
    "FrameInput",
    "InputError",
    "ObjectStream",
    "OnlineCompleter",
    "OnlineFrame",
    "RunOptions",
    "SamplingConfig",
    "StorageOptions",
    "VideoClip",
    "complete_many",
    "crop_centers",
    "draw_result",
    "read_objects",
    "show_result",
]

_HOME = {
    "Acceleration": "amodal_diffusion.models.acceleration",
    "AmodalCompleter": "amodal_diffusion.pipelines.completer",
    "AmodalResult": "amodal_diffusion.types",
    "AmodalSegmentationPipeline": "amodal_diffusion.pipelines.amodal_segmentation",
    "BeyondPaper": "amodal_diffusion.config",
    "ClipRecord": "amodal_diffusion.completion.clip_work",
    "CompletionConfig": "amodal_diffusion.pipelines.completion_config",
    "ContentCompletionPipeline": "amodal_diffusion.pipelines.content_completion",
    "DepthEstimator": "amodal_diffusion.models.depth",
    "FrameInput": "amodal_diffusion.pipelines.preprocessing",
    "InputError": "amodal_diffusion.basics",
    "ObjectStream": "amodal_diffusion.pipelines.completer",
    "OnlineCompleter": "amodal_diffusion.pipelines.online",
    "OnlineFrame": "amodal_diffusion.pipelines.online",
    "read_objects": "amodal_diffusion.io.clip_files",
    "RunOptions": "amodal_diffusion.completion.run_options",
    "SamplingConfig": "amodal_diffusion.config",
    "StorageOptions": "amodal_diffusion.completion.storage_options",
    "VideoClip": "amodal_diffusion.types",
    "complete_many": "amodal_diffusion.completion.batch",
    "crop_centers": "amodal_diffusion.frames.crop",
    "draw_result": "amodal_diffusion.frames.drawing",
    "show_result": "amodal_diffusion.frames.drawing",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `amodal-diffusion --help` does not wait for torch."""
    if name == "__version__":
        return import_module("importlib.metadata").version("amodal-diffusion")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names, which are not attributes until they are used."""
    return sorted(__all__)
