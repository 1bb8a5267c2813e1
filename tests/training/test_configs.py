"""Every shipped YAML loads, by the class that reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, patch_environment
from accelerate.utils.launch import prepare_multi_gpu_env

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import MASK_FILTERS, BeyondPaper, SamplingConfig
from amodal_diffusion.models.hub import stage_settings
from amodal_diffusion.parsing import load_settings, parse_settings, save_settings
from amodal_diffusion.training.c2f_seg.settings import C2FTrainingSettings
from amodal_diffusion.training.networks import _exported_settings
from amodal_diffusion.training.s_amodal.settings import SAModalTrainingSettings
from amodal_diffusion.training.sameo.settings import SameoTrainingSettings
from amodal_diffusion.training.settings import TrainingSettings
from recipes.tiny.shared_autoencoder import SharedAutoencoderSettings
from tests.factories import tiny_unet

ROOT = Path(__file__).resolve().parents[2]
CONFIGS, RECIPE = ROOT / "configs", ROOT / "recipes/tiny"
RUNS = sorted([*CONFIGS.glob("*.yaml"), *(ROOT / "recipes").glob("*/*.yaml")])
LAUNCHES = sorted((CONFIGS / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_run_loads_and_saves(path: Path, tmp_path: Path) -> None:
    settings_class: type[Any] = TrainingSettings
    if path == RECIPE / "autoencoder.yaml":
        settings_class = SharedAutoencoderSettings
    if "c2f_seg" in f"{path.parent.name}/{path.stem}":
        settings_class = C2FTrainingSettings
    if "s_amodal" in f"{path.parent.name}/{path.stem}":
        settings_class = SAModalTrainingSettings
    if "sameo" in f"{path.parent.name}/{path.stem}":
        settings_class = SameoTrainingSettings
    settings = load_settings(settings_class, path)
    save_settings(settings, tmp_path / "again.yaml")
    assert load_settings(settings_class, tmp_path / "again.yaml") == settings


def test_fine_tuning_keeps_how_the_bundled_model_is_sampled() -> None:
    settings = load_settings(TrainingSettings, CONFIGS / "finetune_tiny.yaml")
    base = stage_settings(ROOT / "amodal_diffusion/weights/tiny/amodal_segmentation", settings.stage)
    assert base.presets
    assert _exported_settings(settings, base) == base
    other = replace(settings, sampling=settings.sampling.changed({"tta": 1}))
    assert not _exported_settings(other, base).presets


# As version 0.1 had it in configs/tiny_amodal_segmentation_4.yaml.
OF_VERSION_0_1 = """
data:
  height: 96
  width: 96
  zoom: 2.0
sampling:
  num_inference_steps: 1
  guidance_scale: 1.0
  noise_aug_strength: 0.02
  height: 96
  width: 96
  zoom: 2.0
  num_frames: 16
  decode_chunk_size: 16
  mask_threshold: 0.05
  visible_weight: 0.1
  other_frames: true
  views: 2
"""


def test_a_file_of_version_0_1_means_the_same_and_says_so_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old.yaml").write_text(OF_VERSION_0_1)
    settings = load_settings(TrainingSettings, tmp_path / "old.yaml")
    beyond = BeyondPaper(temporal_prior=True, expected_iou_weight=0.1, mask_filters=MASK_FILTERS, tta=2)
    today = {"num_inference_steps": 1, "guidance_scale": 1.0, "num_frames": 16, "decode_chunk_size": 16}
    assert settings.sampling == SamplingConfig(
        **today, height=96, width=96, fit="crop", mask_threshold=0.05, noise_aug_strength=0.02, beyond=beyond
    )
    (notice,) = caplog.messages
    assert "sampling.views is now sampling.beyond.tta" in notice
    assert "data.zoom is now sampling.beyond.crop_scale" in notice
    flags = ["--sampling.beyond.tta", "1", "--config", str(tmp_path / "old.yaml")]
    assert parse_settings(TrainingSettings, flags).sampling == settings.sampling.changed({"tta": 1})


def test_other_old_keys_and_a_zoom_of_none(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("sampling: {zoom: null, solver: heun, copies: true, painted_share: 1.0}")
    sampling = load_settings(TrainingSettings, tmp_path / "old.yaml").sampling
    assert (sampling.fit, sampling.scheduler) == ("letterbox", "heun")
    assert sampling.beyond.color_propagation


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            "{data: {zoom: 3.0}, sampling: {zoom: 2.0}}",
            r"old.yaml: data.zoom: expected sampling.zoom, 2.0, .* got 3.0",
        ),
        ("{data: {zoom: 2.0}}", r"data.zoom: expected sampling.zoom, None, .* give sampling.fit crop"),
        ("{sampling: {views: 2, beyond: {tta: 2}}}", r"sampling.beyond: is new beside sampling.views, .* rename"),
        ("{sampling: {solver: fastest}}", r"sampling.scheduler: .*fastest"),
        ("{sampling: {painted_share: 0.5}}", r"painted_share: expected 1.0, as this field was removed, got 0.5"),
        ("{sampling: {zooms: 2.0}}", r"sampling.zooms: unknown; did you mean"),
    ],
)
def test_what_cannot_be_kept_of_version_0_1_is_one_clear_error(
    content: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.yaml").write_text(content)
    with pytest.raises(InputError, match=line):
        load_settings(TrainingSettings, tmp_path / "old.yaml")
    with pytest.raises(SystemExit) as stop:
        parse_settings(TrainingSettings, ["--config", str(tmp_path / "old.yaml")])
    assert stop.value.code == 2
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_every_launch_loads(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert config.use_cpu == path.stem.startswith("cpu")
    processes = {"cpu": 1, "single_gpu": 1, "cpu_two_processes": 2, "multi_machine": 16}
    assert config.num_processes == processes.get(path.stem, 8)
    assert config.num_machines == (2 if path.stem == "multi_machine" else 1)
    kinds = {"cpu": "NO", "single_gpu": "NO", "fsdp": "FSDP", "deepspeed_zero2": "DEEPSPEED"}
    assert config.distributed_type == DistributedType(kinds.get(path.stem, "MULTI_GPU"))


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_every_launch_passes_the_launchers_own_checks(path: Path) -> None:
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "train.py"])
    checked, _, _ = _validate_launch_command(arguments)
    assert checked.use_fsdp == (path.stem == "fsdp")
    assert checked.use_deepspeed == (path.stem == "deepspeed_zero2")
    assert bool(checked.multi_gpu) == (path.stem in {"multi_gpu", "multi_machine", "cpu_two_processes"})


def test_fsdp_finds_the_blocks_of_our_networks() -> None:
    arguments = launch_command_parser().parse_args(["--config_file", str(CONFIGS / "accelerate/fsdp.yaml"), "train.py"])
    checked, _, _ = _validate_launch_command(arguments)
    with patch_environment(**prepare_multi_gpu_env(checked)):
        plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    unet = tiny_unet()
    plugin.set_auto_wrap_policy(unet)
    wrapped = {type(module).__name__ for module in unet.modules() if plugin.auto_wrap_policy(module, False, 0)}
    assert wrapped == {"SpatioTemporalResBlock", "TransformerSpatioTemporalModel"}


def test_zero2_shares_out_gradients_and_optimizer_and_leaves_batches_to_the_run() -> None:
    config = load_config_from_file(str(CONFIGS / "accelerate/deepspeed_zero2.yaml")).deepspeed_config
    assert config["zero_stage"] == 2
    # The run knows them, and tells DeepSpeed; Accelerate takes no "auto" here.
    assert not {"gradient_accumulation_steps", "gradient_clipping"} & config.keys()


def test_configs_hold_the_papers_runs_and_a_launch_for_every_case() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} >= {
        "debug_cpu", "sailvos_stage1_mask", "sailvos_stage1_depth", "sailvos_stage2",
    }  # fmt: skip
    assert {launch.stem for launch in LAUNCHES} == {
        "cpu", "cpu_two_processes", "single_gpu", "multi_gpu", "multi_machine", "fsdp", "deepspeed_zero2",
    }  # fmt: skip
