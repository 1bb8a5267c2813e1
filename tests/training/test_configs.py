"""Every shipped YAML loads, by the class that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from amodal_diffusion.config import load_settings, save_settings
from amodal_diffusion.training.precompute import PrecomputeSettings
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.vae import VaeSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RUNS = sorted(CONFIGS.glob("*.yaml"))
LAUNCHES = sorted((CONFIGS / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_run_loads_and_saves(path: Path, tmp_path: Path) -> None:
    settings_class = VaeSettings if "vae" in path.stem else TrainingSettings
    settings = load_settings(settings_class, path)
    save_settings(settings, tmp_path / "again.yaml")
    assert load_settings(settings_class, tmp_path / "again.yaml") == settings


@pytest.mark.parametrize("name", ["tiny_amodal_segmentation", "tiny_content_completion"])
def test_a_runs_clips_are_encoded_with_its_own_settings(name: str) -> None:
    run = load_settings(TrainingSettings, CONFIGS / f"{name}.yaml")
    encoded = load_settings(PrecomputeSettings, CONFIGS / f"{name}.yaml")
    assert (encoded.data, encoded.model, encoded.noise, encoded.stage) == (run.data, run.model, run.noise, run.stage)
    assert run.stage == name.removeprefix("tiny_")
    assert run.data.latents is not None


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_every_launch_loads(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.use_cpu == path.stem.startswith("cpu")
    assert config.num_processes == {"cpu_two_processes": 2, "multi_gpu": 8}.get(path.stem, 1)


def test_the_configs_that_the_readme_names_are_there() -> None:
    assert {"tiny_vae", "tiny_amodal_segmentation", "tiny_content_completion", "debug_cpu"} <= {
        run.stem for run in RUNS
    }
    assert {"cpu", "cpu_two_processes", "single_gpu", "multi_gpu"} <= {launch.stem for launch in LAUNCHES}
