"""The UNet: inflation, what is trained, strict loading."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.unet import (
    inflate_conv_in,
    load_amodal_unet,
    load_svd_unet,
    one_token_per_frame,
    trainable_parameters,
    use_attention,
)
from tests.factories import TOKEN_WIDTH, tiny_unet

WEIGHTS = "diffusion_pytorch_model.safetensors"


def _inputs(batch: int, channels: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "sample": torch.randn(batch, 3, channels, 4, 8, generator=generator),
        "timestep": torch.tensor([0.3]),
        "encoder_hidden_states": torch.randn(batch, 3, TOKEN_WIDTH, generator=generator),
        "added_time_ids": torch.tensor([[8.0, 127.0, 0.02]]).repeat(batch, 1),
    }


@torch.no_grad()
def test_inflated_network_equals_its_base_whatever_the_new_channels_hold() -> None:
    base = tiny_unet(in_channels=8)
    inputs = _inputs(2, 8)
    expected = base(**inputs).sample
    inflated = inflate_conv_in(base)
    assert inflated.config.in_channels == 12
    wide = torch.cat([inputs["sample"], torch.full((2, 3, 4, 4, 8), 7.0)], dim=2)
    torch.testing.assert_close(inflated(**{**inputs, "sample": wide}).sample, expected)


def test_inflating_to_fewer_channels_is_refused() -> None:
    with pytest.raises(InputError, match="at least the network's 12"):
        inflate_conv_in(tiny_unet(), in_channels=8)


def test_the_papers_choice_trains_temporal_transformers_and_conv_in() -> None:
    unet = tiny_unet()
    chosen = trainable_parameters(unet, "paper")
    names = {name for name, parameter in unet.named_parameters() if parameter.requires_grad}
    assert len(chosen) == len(names)
    assert {"conv_in.weight", "conv_in.bias"} <= names
    assert all("temporal_transformer_block" in name or name.startswith("conv_in.") for name in names)
    assert len(names) > 2
    assert len(trainable_parameters(unet, "all")) == len(list(unet.parameters()))


def test_unknown_choice_is_refused() -> None:
    with pytest.raises(InputError, match="'paper', 'all' or 'lora'"):
        trainable_parameters(tiny_unet(), "none")  # type: ignore[arg-type]


def test_released_layout_reads_conv_in2(tmp_path: Path) -> None:
    unet = tiny_unet()
    unet.save_pretrained(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    released = {key.replace("conv_in.", "conv_in2."): value for key, value in state.items()}
    released["conv_in.weight"], released["conv_in.bias"] = torch.zeros(32, 8, 3, 3), torch.zeros(32)
    save_file(released, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    (tmp_path / WEIGHTS).unlink()
    config = (tmp_path / "config.json").read_text().replace('"in_channels": 12', '"in_channels": 8')
    (tmp_path / "config.json").write_text(config)
    loaded = load_amodal_unet(tmp_path)
    assert loaded.config.in_channels == 12
    torch.testing.assert_close(dict(loaded.named_parameters())["conv_in.weight"], unet.conv_in.weight)


def test_other_keys_are_listed(tmp_path: Path) -> None:
    tiny_unet().save_pretrained(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    state["surprise"] = state.pop("conv_out.bias")
    state["conv_out.weight"] = torch.zeros(1)
    save_file(state, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=r"missing keys: conv_out.bias; unexpected keys: surprise; wrong shapes"):
        load_amodal_unet(tmp_path)


def test_plain_base_is_inflated_for_training_and_refused_for_inference(tmp_path: Path) -> None:
    tiny_unet(in_channels=8).save_pretrained(tmp_path)
    assert load_svd_unet(tmp_path).config.in_channels == 12
    with pytest.raises(InputError, match="a base to train from"):
        load_amodal_unet(tmp_path)


@torch.no_grad()
def test_one_token_per_frame_only_within_its_context() -> None:
    unet, inputs = tiny_unet(), _inputs(2, 12)
    before = unet(**inputs).sample
    with one_token_per_frame(unet):
        own = unet(**inputs).sample
        changed = inputs["encoder_hidden_states"].clone()
        changed[:, 1] += 1.0
        other = unet(**{**inputs, "encoder_hidden_states": changed}).sample
    torch.testing.assert_close(unet(**inputs).sample, before)
    assert not torch.allclose(own, before)
    assert not torch.allclose(own, other)


@torch.no_grad()
def test_a_batch_equals_its_clips_alone() -> None:
    unet, inputs = tiny_unet(), _inputs(2, 12)
    both = unet(**inputs).sample
    for row in range(2):
        alone = {key: value if key == "timestep" else value[row : row + 1] for key, value in inputs.items()}
        torch.testing.assert_close(unet(**alone).sample[0], both[row], atol=1e-5, rtol=0)


def test_xformers_without_its_package_or_a_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    with pytest.raises(InputError, match=r"^--attention: xformers (is not installed|does not run here)"):
        use_attention(tiny_unet(), "xformers", option="--attention")
