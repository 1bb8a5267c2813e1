"""The optimizer: AdamW, in 8 bits if asked for, and one line where its package is missing."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.training.networks import make_optimizer
from amodal_diffusion.training.settings import OptimizerSettings


def test_adamw_has_the_settings_numbers() -> None:
    settings = OptimizerSettings(learning_rate=3e-6, betas=(0.8, 0.9), weight_decay=0.02, epsilon=1e-7)
    (group,) = make_optimizer([nn.Parameter(torch.zeros(2))], settings).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"], group["eps"]) == (3e-6, (0.8, 0.9), 0.02, 1e-7)


def test_eight_bits_without_the_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(InputError, match=r"adamw8bit needs the package bitsandbytes; pip install 'amodal-diffusion\["):
        make_optimizer([nn.Parameter(torch.zeros(2))], OptimizerSettings(name="adamw8bit"))


def test_eight_bit_moments_and_float32_weights() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra bitsandbytes is not installed")
    weight = nn.Parameter(torch.randn(128, 128, generator=torch.Generator().manual_seed(0)))
    before = weight.detach().clone()
    optimizer = make_optimizer([weight], OptimizerSettings(name="adamw8bit", learning_rate=1e-3, weight_decay=0.0))
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), before - 1e-3, atol=2e-5, rtol=0)
    assert weight.dtype == torch.float32
    assert {optimizer.state[weight][name].dtype for name in ("state1", "state2")} == {torch.uint8}
