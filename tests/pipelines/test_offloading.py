"""Weights that wait elsewhere between calls: the same results, inputs where the networks compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from amodal_diffusion.config import Offload
from amodal_diffusion.models.offloading import execution_device
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.types import InputError
from tests.factories import moving_square, tiny_completer_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model"))


RELEASED = {"conditioning": "released", "guidance_scale": 1.5, "num_inference_steps": 1, "height": 32, "width": 64}


@pytest.mark.parametrize("changes", [{"num_inference_steps": 1}, RELEASED], ids=["own", "released"])
def test_weights_that_are_away_between_calls_give_the_same(folder: Path, changes: dict[str, object]) -> None:
    clip = moving_square(3)
    plain, hooked = (AmodalCompleter.from_pretrained(folder, device="cpu") for _ in range(2))
    for pipeline in hooked._pipelines.values():
        for network in (pipeline.unet, pipeline.vae, pipeline.image_encoder):
            cpu_offload(network, execution_device=torch.device("cpu"), offload_buffers=True)
            assert {value.device.type for value in network.parameters()} == {"meta"}
            assert execution_device(network) == torch.device("cpu")
    assert hooked.device == "cpu"
    wanted, found = (completer(clip, completer.config(**changes)) for completer in (plain, hooked))
    assert np.array_equal(found.amodal_mask, wanted.amodal_mask)
    assert wanted.rgba is not None
    assert found.rgba is not None
    assert np.array_equal(found.rgba, wanted.rgba)
    for pipeline in hooked._pipelines.values():
        assert {value.device.type for value in pipeline.unet.parameters()} == {"meta"}


def test_a_network_computes_where_its_hooks_take_it() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert execution_device(network) == torch.device("cpu")
    add_hook_to_module(network[1], AlignDevicesHook(execution_device="meta"))
    assert execution_device(network) == torch.device("meta")


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_nothing_waits_for_a_cpu(folder: Path, offload: Offload) -> None:
    with pytest.raises(InputError, match=f"--offload: {offload} moves weights to a GPU"):
        AmodalCompleter.from_pretrained(folder, device="cpu", offload=offload)
