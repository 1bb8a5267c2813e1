"""The device that a user names, as torch's."""

from __future__ import annotations

import torch

from amodal_diffusion.types import InputError


def find_device(name: str) -> torch.device:
    """Find a device that works here.

    Args:
        name: torch's name, or ``"auto"`` for cuda if there is one, else mps, else cpu.

    Raises:
        InputError: if it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name}: cannot be used here ({str(error).splitlines()[0]})") from error
    return device
