"""Checkpoints are whole or absent, the newest complete one is found, rotation keeps the newest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.training.checkpoints import (
    Checkpoints,
    Progress,
    averaged_weights,
    complete_checkpoints,
    export,
    find_checkpoint,
)
from amodal_diffusion.types import InputError
from tests.factories import tiny_components


def checkpoints_of(folder: Path, network: nn.Module, *, keep: int = 2) -> Checkpoints:
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(network, torch.optim.AdamW(network.parameters()))
    return Checkpoints(folder, accelerator, unet=network, ema=EMAModel(network.parameters(), decay=0.5), keep=keep)


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2))
    for step in (1, 2, 10, 9):
        checkpoints.save(Progress(step, 2 * step))
    assert [folder.name for folder in checkpoints.complete()] == ["00000009", "00000010"]


def test_loading_brings_weights_average_and_progress_back(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    checkpoints = checkpoints_of(tmp_path, network)
    before = network.weight.detach().clone()
    folder = checkpoints.save(Progress(7, 14))
    with torch.no_grad():
        network.weight.zero_()
    checkpoints.ema.step(network.parameters())  # type: ignore[union-attr]
    assert checkpoints.load(folder) == Progress(7, 14)
    assert torch.equal(network.weight, before)
    assert torch.equal(checkpoints.ema.shadow_params[0], before)  # type: ignore[union-attr]


def test_an_unfinished_checkpoint_is_not_found_and_not_in_the_way(tmp_path: Path) -> None:
    checkpoints = checkpoints_of(tmp_path, nn.Linear(2, 2))
    good = checkpoints.save(Progress(1, 2))
    (tmp_path / "checkpoints/00000002.partial").mkdir()
    (tmp_path / "checkpoints/00000002.partial/unet.safetensors").write_bytes(b"half")
    assert find_checkpoint(tmp_path, "auto") == good
    checkpoints.save(Progress(2, 4))
    assert find_checkpoint(tmp_path, "auto") == tmp_path / "checkpoints/00000002"


def test_what_resume_means(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, "auto") is None
    assert find_checkpoint(tmp_path, "none") is None
    folder = tmp_path / "checkpoints/00000003"
    folder.mkdir(parents=True)
    assert complete_checkpoints(tmp_path / "checkpoints") == []
    (folder / "progress.json").write_text(json.dumps({"step": 3, "clips": 6}))
    assert find_checkpoint(tmp_path, "auto") == folder
    assert find_checkpoint(tmp_path / "elsewhere", str(folder)) == folder
    with pytest.raises(InputError, match="holds checkpoints of an earlier run"):
        find_checkpoint(tmp_path, "none")
    with pytest.raises(InputError, match="resume: expected auto, none or a checkpoint's folder, got atuo"):
        find_checkpoint(tmp_path, "atuo")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no progress\.json"):
        checkpoints_of(tmp_path, nn.Linear(2, 2)).load(tmp_path)


def test_averaged_weights_are_lent() -> None:
    network = nn.Linear(2, 2)
    ema = EMAModel(network.parameters(), decay=0.5)
    before = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.add_(1)
    with averaged_weights(network, ema):
        assert torch.equal(network.weight, before)
    assert torch.equal(network.weight, before + 1)
    with averaged_weights(network, None):
        assert torch.equal(network.weight, before + 1)


def test_an_export_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    components = tiny_components()
    for _ in range(2):
        export(components, tmp_path / "model", ema=None)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert load_stage(tmp_path / "model", stage="amodal_segmentation").settings == components.settings
