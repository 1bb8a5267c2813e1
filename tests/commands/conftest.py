"""What tests of commands share: a small checkpoint that is loaded once, and one thread, which suits small networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from amodal_diffusion.basics import STAGES, Stage
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.models.stages import load_stages
from amodal_diffusion.pipelines import stage_networks
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


@pytest.fixture(scope="package", autouse=True)
def _loaded_once(model: Path) -> Iterator[None]:
    """A run changes nothing in the networks of this checkpoint, so that all runs in this process share them."""

    @cache
    def shared(stages: tuple[Stage, ...], dtype: torch.dtype) -> dict[Stage, StageComponents]:
        return load_stages(dict.fromkeys(stages, model), dtype=dtype)

    def load(
        folders: Mapping[Stage, Path], *, dtype: torch.dtype, vae: Path | None, share: bool
    ) -> dict[Stage, StageComponents]:
        ours = set(folders.values()) == {model} and vae is None
        return shared(tuple(folders), dtype) if ours else load_stages(folders, dtype=dtype, vae=vae, share=share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_networks, "load_stages", load)
        yield
