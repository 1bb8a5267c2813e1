"""What a checkpoint holds, to compare two to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from amodal_diffusion.training.settings import TrainingSettings


def state_of(folder: Path) -> dict[str, Any]:
    optimizer = torch.load(folder / "optimizer.bin", weights_only=True)
    return {
        "unet": load_file(folder / "unet.safetensors"),
        "ema": load_file(folder / "ema.safetensors"),
        "moments": {
            f"{key}.{name}": value for key, entry in optimizer["state"].items() for name, value in entry.items()
        },
        "random": {
            f"{path.name}.{name}": value
            for path in sorted(folder.glob("random_states_*"))
            for name, value in torch.load(path, weights_only=False).items()
            if isinstance(value, torch.Tensor)
        },
        "groups": optimizer["param_groups"],
        "progress": json.loads((folder / "progress.json").read_text()),
    }


def checkpoint(settings: TrainingSettings, step: int) -> Path:
    return settings.output / f"checkpoints/{step:08d}"


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    for part in ("unet", "ema", "moments", "random"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(value, other[part][name]) for name, value in one[part].items()), part
    assert one["groups"] == other["groups"]
    assert one["progress"] == other["progress"]
