"""What the settings make of the UNet: float32 where trained, narrow where frozen, less memory at the same result."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.training.networks import checkpoint_activations, narrow_frozen, prepare_unet
from amodal_diffusion.training.settings import ModelSettings, TrainingSettings
from tests.factories import TOKEN_WIDTH, tiny_unet


def loss_of(unet: nn.Module, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        output = unet(
            torch.randn(1, 3, 12, 8, 8, generator=generator),
            torch.tensor([0.3]),
            encoder_hidden_states=torch.randn(1, 3, TOKEN_WIDTH, generator=generator),
            added_time_ids=torch.tensor([[8.0, 127.0, 0.02]]),
        ).sample
    return output.float().square().mean()


def gradients_of(unet: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    loss_of(unet, dtype).backward()
    return {name: value.grad for name, value in unet.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("trainable", ["paper", "lora"])
def test_what_is_trained_is_float32_and_frozen_matrices_are_narrow(trainable: str) -> None:
    unet = tiny_unet().train()
    settings = TrainingSettings(mixed_precision="bf16", model=ModelSettings(svd="svd", trainable=trainable))  # type: ignore[arg-type]
    parameters = prepare_unet(unet, settings)
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    assert {id(parameter) for parameter in parameters} == {id(p) for p in unet.parameters() if p.requires_grad}
    frozen = {name: value for name, value in unet.named_parameters() if not value.requires_grad}
    assert {value.dtype for value in frozen.values() if value.ndim > 1} == {torch.bfloat16}
    assert {value.dtype for name, value in frozen.items() if "norm" in name and "temporal" not in name} == {
        torch.float32
    }


def test_a_step_does_not_change_when_frozen_weights_are_narrow() -> None:
    wide, narrow = tiny_unet().train(), tiny_unet().train()
    settings = TrainingSettings(model=ModelSettings(svd="svd"))
    prepare_unet(wide, settings)
    prepare_unet(narrow, settings)
    narrow_frozen(narrow, torch.bfloat16)
    one, other = gradients_of(wide, torch.bfloat16), gradients_of(narrow, torch.bfloat16)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_networks_in_shards_keep_one_dtype() -> None:
    unet = tiny_unet()
    prepare_unet(unet, TrainingSettings(mixed_precision="bf16", model=ModelSettings(svd="svd")), whole=False)
    assert {value.dtype for value in unet.parameters()} == {torch.float32}


def test_float32_sees_a_step_that_bfloat16_rounds_away() -> None:
    for dtype, moved in ((torch.float32, True), (torch.bfloat16, False)):
        weight = nn.Parameter(torch.full((8, 8), 0.05, dtype=dtype))
        before = weight.detach().clone()
        optimizer = torch.optim.AdamW([weight], lr=3e-6)
        for _ in range(5):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        assert torch.equal(weight, before) is not moved


def test_checkpointing_computes_the_same_and_keeps_less() -> None:
    kept: dict[str, int] = {}
    gradients = {}
    for name in ("plain", "checkpointed"):
        unet = tiny_unet().train()
        prepare_unet(unet, TrainingSettings(model=ModelSettings(svd="svd")))
        if name == "checkpointed":
            checkpoint_activations(unet)
        storages: dict[int, int] = {}

        def note(value: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            loss = loss_of(unet)
        kept[name] = sum(storages.values())
        loss.backward()
        gradients[name] = {key: value.grad for key, value in unet.named_parameters() if value.grad is not None}
    assert kept["checkpointed"] < kept["plain"] / 2
    for name, value in gradients["plain"].items():
        torch.testing.assert_close(gradients["checkpointed"][name], value, atol=1e-7, rtol=1e-5)


def test_xformers_without_its_package_or_a_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainingSettings(model=ModelSettings(svd="svd", attention="xformers"))
    monkeypatch.setitem(sys.modules, "xformers", None)
    with pytest.raises(InputError, match=r"model\.attention: xformers (is not installed|does not run here)"):
        prepare_unet(tiny_unet(), settings)
    prepare_unet(tiny_unet(), replace(settings, model=replace(settings.model, attention="plain")))
