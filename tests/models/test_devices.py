"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.weights import find_device


def test_auto_is_a_device_that_works() -> None:
    assert torch.ones(2, device=find_device("auto")).sum().item() == 2


@pytest.mark.parametrize("name", ["cuda:99", "gpu", ""])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(InputError, match=rf"device {name}: cannot be used here"):
        find_device(name)
