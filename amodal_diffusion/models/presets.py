"""Ways to sample by name: `fast`, `default`, and `paper` for any checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from amodal_diffusion.models.checkpoint import SamplingDefaults
from amodal_diffusion.types import InputError

Preset = Literal["fast", "default", "paper"]
PRESETS: tuple[Preset, ...] = ("fast", "default", "paper")
Presets = Mapping[str, Mapping[str, Any]]

# The paper's (section 5), whatever a checkpoint says; what it was trained with, such as its size, stays its own.
_PAPER: dict[str, Any] = {
    "num_inference_steps": 25,
    "guidance_scale": 1.5,
    "noise_aug_strength": 0.02,
    "decode_chunk_size": 8,
    "solver": "euler",
    "guidance_interval": None,
    "sigma_min": None,
    "sigma_max": None,
    "views": 1,
}
_SINGLE_VIEW: dict[str, Any] = {"guidance_interval": None, "sigma_min": None, "sigma_max": None, "views": 1}
_FAST: dict[str, Any] = {**_SINGLE_VIEW, "num_inference_steps": 4, "guidance_scale": 1.0, "solver": "dpmpp"}

UNTOLD_PRESETS: dict[str, dict[str, Any]] = {
    "fast": dict(_FAST),
    "default": {**_SINGLE_VIEW, "num_inference_steps": 8, "guidance_scale": 1.5, "solver": "dpmpp",
                "guidance_interval": (1.0, 100.0)},
}  # fmt: skip
"""Of checkpoints that say nothing of how they are sampled, as the released ones. Chosen by what they cost, 4 and 11
network rows for the paper's 50; not measured at full size."""


def without_untold(presets: Presets) -> Presets:
    """The presets that a checkpoint says itself: none of those that this package gave it, also by converting it.

    Args:
        presets: of a loaded checkpoint.

    Returns:
        the same, or none at all where they are `UNTOLD_PRESETS`.
    """
    as_read = {  # JSON has lists
        name: {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
        for name, changes in presets.items()
    }
    return {} if as_read == UNTOLD_PRESETS else presets


def apply_preset(name: Preset, sampling: SamplingDefaults, presets: Presets) -> SamplingDefaults:
    """How a checkpoint samples under a preset.

    Args:
        name: ``"paper"`` is 25 Euler steps under guidance of 1.5 for any checkpoint; ``"default"`` the checkpoint's
            own settings; ``"fast"`` few steps without guidance, and never more than the checkpoint's own.
        sampling: the checkpoint's settings.
        presets: what the checkpoint says of its own presets; they come before those of this package.

    Raises:
        InputError: if there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    if name == "paper":
        return replace(sampling, **_PAPER)
    fallback: Mapping[str, Any] = {}
    if name == "fast":
        fallback = {**_FAST, "num_inference_steps": min(sampling.num_inference_steps, _FAST["num_inference_steps"])}
    return replace(sampling, **presets.get(name, fallback))
