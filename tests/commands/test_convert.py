"""`amodal-diffusion convert`: a checkpoint lands in the package's layout, whole, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion.cli import main

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def test_converts_a_stage_and_overwrites_nothing(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    arguments = ["convert", str(model), str(target), "--stage", "content_completion"]
    assert main(arguments) == 0
    printed = capfd.readouterr()
    assert printed.out == f"{target / 'content_completion'}\n"
    assert printed.err == ""
    old = load_file(model / "content_completion" / WEIGHTS)
    new = load_file(target / "content_completion" / WEIGHTS)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in old)
    assert {"vae", "image_encoder", "scheduler"} <= {path.name for path in (target / "content_completion").iterdir()}
    assert main(arguments) == 2
    assert "exists" in capfd.readouterr().err


def test_an_unknown_source_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "nosuch"), str(tmp_path / "target")]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: model ")
    assert error.count("\n") == 1
    assert not (tmp_path / "target").exists()
