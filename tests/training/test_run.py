"""The commands: mistakes, dry run, and two real processes through `accelerate launch`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion.config import load_settings, save_settings
from amodal_diffusion.training.run import precompute_main, train, train_main
from amodal_diffusion.training.settings import TrainingSettings, ValidationSettings
from tests.training.conftest import MakeSettings

ROOT = Path(__file__).resolve().parents[2]
TWO_PROCESSES = ROOT / "configs/accelerate/cpu_two_processes.yaml"


def launch(*command: str) -> str:
    """Run a command in two processes on the CPU; its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES), *command]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=280)
    finally:
        if process.poll() is None:  # the launcher's own processes too
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, printed
    return printed


@pytest.fixture
def config(make_settings: MakeSettings, tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    save_settings(make_settings(), path)
    return path


def test_dry_run_prints_settings_that_load_back(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_main(["--dry-run", "--config", str(config), "--steps", "9"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    settings = load_settings(TrainingSettings, printed)
    assert settings == replace(load_settings(TrainingSettings, config), steps=9, dry_run=True)
    assert not settings.output.exists()


def test_a_mistake_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_main(["--config", str(config), "--model.vae", "null"]) == 2
    assert capsys.readouterr().err == (
        "error: model.vae: expected a folder where neither model.base nor model.svd is given\n"
    )
    assert train_main(["--config", str(config)], stage="content_completion") == 2
    assert "error: stage: this script trains content_completion" in capsys.readouterr().err
    assert precompute_main(["--config", str(config)]) == 2
    assert "give --out DIR" in capsys.readouterr().err


def test_two_processes_train_validate_and_resume_exactly(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(
        output=tmp_path / "two",
        batch_size=1,
        checkpoint_every=2,
        validation=ValidationSettings(every=4, clips=3, pictures=1),
    )
    save_settings(settings, tmp_path / "run.yaml")
    command = ["-m", "amodal_diffusion.training", "--config", str(tmp_path / "run.yaml")]
    launch(*command)
    last = settings.output / "checkpoints/00000004"
    lines = [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]
    assert lines[0]["processes"] == 2
    assert "miou_occ" in lines[-1]
    assert (settings.output / "validation/00000004.png").is_file()
    assert (settings.output / "model/checkpoint.json").is_file()
    assert {path.name for path in last.glob("random_states_*")} == {"random_states_0.pkl", "random_states_1.pkl"}

    last.rename(tmp_path / "first")
    launch("train/train_amodal_segmentation.py", "--config", str(tmp_path / "run.yaml"))
    for name in ("unet", "ema"):
        first, again = load_file(tmp_path / f"first/{name}.safetensors"), load_file(last / f"{name}.safetensors")
        assert all(torch.equal(value, again[key]) for key, value in first.items())

    # The same clips and the same noise make the same gradients, however they are shared out.
    train(replace(settings, output=tmp_path / "one", batch_size=2, steps=1, optimizer=settings.optimizer))
    two = next(line for line in lines if line.get("step") == 1 and "loss" in line)
    one = json.loads((tmp_path / "one/log.jsonl").read_text().splitlines()[1])
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    assert one["gradient_norm"] == pytest.approx(two["gradient_norm"], rel=1e-5)


def test_two_processes_share_out_the_encoding(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "latents"
    command = ["train/precompute.py", "--config", str(config), "--out", str(out), "--count", "4", "--shard_size", "1"]
    printed = launch(*command)
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"{shard:06d}.safetensors" for shard in range(4)),
        "settings.json",
    ]
    assert printed.count("clips/s in this process") == 4
