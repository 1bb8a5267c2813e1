"""Tiny networks, built once for all tests of pipelines; nothing here changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from tests.factories import tiny_completer_folder, tiny_components


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of both stages."""
    return tiny_completer_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def segmentation() -> AmodalSegmentationPipeline:
    pipeline = AmodalSegmentationPipeline.from_components(tiny_components("amodal_segmentation"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def content() -> ContentCompletionPipeline:
    pipeline = ContentCompletionPipeline.from_components(tiny_components("content_completion"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def completer(segmentation: AmodalSegmentationPipeline, content: ContentCompletionPipeline) -> AmodalCompleter:
    return AmodalCompleter(segmentation, content)


@pytest.fixture(scope="session")
def masks_only(segmentation: AmodalSegmentationPipeline) -> AmodalCompleter:
    return AmodalCompleter(segmentation, None)


@pytest.fixture(scope="session")
def content_only(content: ContentCompletionPipeline) -> AmodalCompleter:
    return AmodalCompleter(None, content)
