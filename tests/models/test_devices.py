"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.weights import find_device


def test_auto_is_a_device_that_works() -> None:
    assert torch.ones(2, device=find_device("auto")).sum().item() == 2


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="device cuda:99: cannot be used here"):
        find_device("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:x"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"device: expected auto, cpu, cuda, .* or mps, got {name}"):
        find_device(name)
