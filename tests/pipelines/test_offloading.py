"""Weights that wait elsewhere between calls: the same results, inputs where the networks compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import Offload
from amodal_diffusion.models.offloading import execution_device, take_turns
from amodal_diffusion.pipelines.completer import AmodalCompleter
from tests.factories import moving_square, tiny_completer_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model"))


RELEASED = {"conditioning": "released", "guidance_scale": 1.5, "num_inference_steps": 1, "height": 32, "width": 64}


@pytest.mark.parametrize("changes", [{"num_inference_steps": 1}, RELEASED], ids=["own", "released"])
def test_weights_that_are_away_between_calls_give_the_same(folder: Path, changes: dict[str, object]) -> None:
    clip = moving_square(3)
    plain, hooked = (AmodalCompleter.from_pretrained(folder, device="cpu") for _ in range(2))
    pipelines = hooked._pipelines.values()
    for network in {part for pipeline in pipelines for part in (pipeline.unet, pipeline.vae, pipeline.image_encoder)}:
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
    with pytest.raises(InputError, match=f"offload: {offload} moves weights to a GPU"):
        AmodalCompleter.from_pretrained(folder, device="cpu", offload=offload)


def test_networks_that_two_stages_share_take_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = moving_square(3)
    plain, offloaded = (AmodalCompleter.from_pretrained(folder, device="cpu") for _ in range(2))
    pipelines = offloaded._pipelines
    first, second = pipelines.values()
    assert first.vae is second.vae
    names = {id(first.vae): "vae", id(first.image_encoder): "image encoder", id(first.unet): "unet 1",
             id(second.unet): "unet 2"}  # fmt: skip
    moves: list[tuple[str, str]] = []
    gpu = torch.device("cpu", 0)  # the CPU by another name
    for network in (first.vae, first.image_encoder, first.unet, second.unet):
        monkeypatch.setattr(
            network, "to", lambda where, network=network: moves.append((names[id(network)], str(where)))
        )
    take_turns(list(pipelines.values()), gpu)
    assert [execution_device(pipeline.unet) for pipeline in pipelines.values()] == [gpu, gpu]
    moves.clear()
    wanted, found = (completer(clip, completer.config(num_inference_steps=2)) for completer in (plain, offloaded))
    assert wanted.rgba is not None
    assert found.rgba is not None
    assert np.array_equal(found.rgba, wanted.rgba)
    arrivals = [name for name, where in moves if where == str(gpu)]
    assert arrivals == ["vae", "image encoder", "unet 1", "vae", "image encoder", "unet 2", "vae"]
    assert [name for name, where in moves if where == "cpu"] == arrivals[:-1]  # one leaves when the next comes
