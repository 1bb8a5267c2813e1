"""What tests of commands share: a small checkpoint, and one thread, in which small networks take the least time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amodal_diffusion.models.saving import save_model
from amodal_diffusion.types import STAGES
from tests.factories import SAMPLING, tiny_components


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages with random weights: windows of 4 frames of 16 x 32 pixels, one step, nothing beyond the paper."""
    sampling = SAMPLING.changed({"height": 16, "width": 32, "num_inference_steps": 1})
    stages = [tiny_components(stage) for stage in STAGES]
    folder = tmp_path_factory.mktemp("model")
    save_model([replace(parts, settings=replace(parts.settings, sampling=sampling)) for parts in stages], folder)
    return folder
