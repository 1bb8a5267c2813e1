"""Adapters: nothing at the start, trained alone with `conv_in`, folded into a stock network without loss."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.lora import add_adapters, is_adapter, without_adapters
from amodal_diffusion.models.unet import trainable_parameters
from tests.factories import TOKEN_WIDTH, tiny_unet

RANK = 3


def answer(unet: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return unet(
            torch.randn(1, 3, 12, 4, 8, generator=generator),
            torch.tensor([0.3]),
            encoder_hidden_states=torch.randn(1, 3, TOKEN_WIDTH, generator=generator),
            added_time_ids=torch.tensor([[8.0, 127.0, 0.02]]),
        ).sample


def test_adapters_start_as_nothing_and_follow_from_the_seed() -> None:
    plain, adapted, again, other = (tiny_unet() for _ in range(4))
    state = torch.get_rng_state()
    for unet, seed in ((adapted, 1), (again, 1), (other, 2)):
        add_adapters(unet, rank=RANK, alpha=6.0, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(answer(adapted), answer(plain), atol=1e-5, rtol=0)
    one, same, different = (unet.state_dict() for unet in (adapted, again, other))
    downs = [name for name in one if ".lora_A." in name]
    assert all(one[name].shape[0] == RANK and torch.equal(one[name], same[name]) for name in downs)
    assert not any(torch.equal(one[name], different[name]) for name in downs)


def test_every_linear_layer_of_the_temporal_blocks_is_adapted_and_nothing_else() -> None:
    unet = tiny_unet()
    layers = {
        name
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Linear) and "temporal_transformer_blocks" in name
    }
    add_adapters(unet, rank=RANK, alpha=6.0, seed=0)
    adapted = {name.partition(".lora_")[0] for name, _ in unet.named_parameters() if is_adapter(name)}
    assert adapted == layers
    trainable_parameters(unet, "lora")
    names = {name for name, parameter in unet.named_parameters() if parameter.requires_grad}
    assert {"conv_in.weight", "conv_in.bias"} == {name for name in names if not is_adapter(name)}
    assert len(names) == 2 + 2 * len(layers)


def test_folded_in_they_compute_the_same_in_a_stock_network() -> None:
    plain, unet = tiny_unet(), tiny_unet()
    add_adapters(unet, rank=RANK, alpha=6.0, seed=0)
    for name, parameter in unet.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.1)
    before = answer(unet)
    assert not torch.allclose(before, answer(plain), atol=1e-4)
    whole = without_adapters(unet)
    assert whole.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(answer(whole), before, atol=1e-5, rtol=1e-5)
    assert torch.equal(answer(unet), before)  # which is left as it was
    assert whole.conv_in.weight.data_ptr() == unet.conv_in.weight.data_ptr()


def test_a_small_update_of_a_narrow_weight_is_not_rounded_away() -> None:
    unet = tiny_unet()
    add_adapters(unet, rank=RANK, alpha=6.0, seed=0)
    name, layer = next((name, layer) for name, layer in unet.named_modules() if hasattr(layer, "base_layer"))
    layer.base_layer.weight.data = torch.ones_like(layer.base_layer.weight, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.lora_A["amodal"].weight.fill_(1e-3)
        layer.lora_B["amodal"].weight.fill_(1e-3)
    folded = without_adapters(unet).state_dict()[f"{name}.weight"]
    assert folded.dtype == torch.float32
    torch.testing.assert_close(folded - 1, torch.full_like(folded, 6e-6), rtol=0.05, atol=0)


def test_a_network_without_adapters_is_itself() -> None:
    unet = tiny_unet()
    assert without_adapters(unet) is unet


def test_without_peft_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"model\.trainable: lora needs the package peft; pip install"):
        add_adapters(tiny_unet(), rank=RANK, alpha=6.0, seed=0)
