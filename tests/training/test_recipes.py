"""The paper's runs and the options beside them, through the real loop: rates apply, what is trained is what moves."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.depth import DepthEstimator
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.lora import is_adapter
from amodal_diffusion.parsing import load_settings, save_settings
from amodal_diffusion.training.distributed import make_accelerator
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.precompute import PrecomputeSettings, precompute
from amodal_diffusion.training.settings import (
    DataSettings,
    LoraSettings,
    ModelSettings,
    OptimizerSettings,
    TrainingSettings,
)
from amodal_diffusion.training.setup import train, train_main
from amodal_diffusion.training.trainer import Trainer
from tests.factories import tiny_depth_folder, tiny_svd_folder
from tests.tracks import write_tracks
from tests.training.conftest import MakeSettings
from tests.training.launching import launch

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STAGE = "amodal_segmentation"


@pytest.fixture(scope="module")
def svd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_svd_folder(tmp_path_factory.mktemp("svd"))


@pytest.fixture
def make_recipe(make_settings: MakeSettings, svd: Path) -> MakeSettings:
    """A run of one step at the paper's rate from a tiny Stable Video Diffusion folder."""

    def make(**changes: object) -> TrainingSettings:
        values = {
            "steps": 1,
            "batch_size": 1,
            "model": ModelSettings(svd=str(svd)),
            "optimizer": OptimizerSettings(learning_rate=1e-2),
        }
        return make_settings(**{**values, **changes})

    return make


def run(settings: TrainingSettings) -> TrainingResult:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    return train(settings)


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "rate"), [("sailvos_stage1_mask", 3e-5), ("sailvos_stage1_depth", 3e-6), ("sailvos_stage2", 3e-5)]
)
def test_the_rate_of_the_yaml_is_the_rate_of_the_step(
    name: str, rate: float, make_recipe: MakeSettings, tmp_path: Path
) -> None:
    shipped = load_settings(TrainingSettings, CONFIGS / f"{name}.yaml")
    assert shipped.optimizer.learning_rate == rate
    save_settings(make_recipe(stage=shipped.stage, optimizer=shipped.optimizer), tmp_path / "run.yaml")
    for flags, expected in ([], rate), (["--optimizer.learning_rate", "7e-5"], 7e-5):
        output = tmp_path / f"run_{expected}"
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
        assert train_main([*flags, "--config", str(tmp_path / "run.yaml"), "--output", str(output)]) == 0
        assert lines_of(output)[1]["learning_rate"] == expected
        optimizer = torch.load(output / "checkpoints/00000001/optimizer.bin", weights_only=True)
        assert [group["lr"] for group in optimizer["param_groups"]] == [expected]
    assert load_settings(TrainingSettings, output / "settings.yaml").optimizer.learning_rate == 7e-5


@pytest.mark.parametrize("written", ["3e-6", "3.0e-6", "0.000003"])
def test_a_rate_is_a_number_however_it_is_written(written: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"optimizer: {{learning_rate: {written}}}")
    assert load_settings(TrainingSettings, tmp_path / "run.yaml").optimizer.learning_rate == 3e-6


def test_a_small_rate_moves_weights_under_bf16(make_recipe: MakeSettings) -> None:
    settings = make_recipe(steps=2, mixed_precision="bf16", optimizer=OptimizerSettings(learning_rate=3e-6))
    before = dict(build_components(settings).unet.named_parameters())
    run(settings)
    after = load_file(settings.output / "checkpoints/00000002/unet.safetensors")
    moved = {name: float((value - before[name].detach()).abs().max()) for name, value in after.items()}
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert all(0 < step <= 2 * 3.1e-6 for name, step in moved.items() if name != "conv_in.weight")
    wide = torch.cat([value.flatten() for value in after.values()])
    assert not torch.equal(wide, wide.to(torch.bfloat16).float())


def test_optimizer_and_average_hold_what_is_trained_and_nothing_else(make_recipe: MakeSettings) -> None:
    settings = make_recipe(optimizer=OptimizerSettings(ema_decay=0.9))
    trainer = Trainer(settings, make_accelerator("no"), components=build_components(settings), clips=[])  # type: ignore[arg-type]
    unet = trainer.components.unet
    trained = [value for value in unet.parameters() if value.requires_grad]
    held = [value for group in trainer.optimizer.param_groups for value in group["params"]]
    assert [id(value) for value in held] == [id(value) for value in trained]
    assert trainer.ema is not None
    assert [value.shape for value in trainer.ema.shadow_params] == [value.shape for value in trained]
    assert 0 < sum(value.numel() for value in trained) < sum(value.numel() for value in unet.parameters()) / 2


def test_phase_b_starts_from_phase_a_with_new_channels_of_zero(make_recipe: MakeSettings, tmp_path: Path) -> None:
    data = DataSettings(clips=2, frames=4, height=16, width=32)
    mask = run(
        make_recipe(output=tmp_path / "mask", steps=2, data=replace(data, guide_dropout=1.0), conditioning_dropout=0.0)
    )
    before = load_stage(mask.model, stage=STAGE).unet
    start = build_components(make_recipe()).unet.conv_in.weight
    assert not before.conv_in.weight[:, 8:].any()
    assert not torch.equal(before.conv_in.weight[:, :4], start[:, :4])
    base = ModelSettings(base=str(mask.model))
    depth = run(make_recipe(output=tmp_path / "depth", model=base, data=data, conditioning_dropout=0.0))
    after = load_stage(depth.model, stage=STAGE).unet
    assert after.conv_in.weight[:, 8:].any()
    names = [name for name, value in after.named_parameters() if not torch.equal(value, before.get_parameter(name))]
    assert all("temporal_transformer_block" in name or name.startswith("conv_in.") for name in names)


@pytest.mark.slow
def test_phase_b_learns_from_the_depth_of_its_network_computed_or_cached(
    make_recipe: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, depth = (
        load_settings(TrainingSettings, CONFIGS / f"sailvos_stage1_{name}.yaml") for name in ("mask", "depth")
    )
    assert (mask.model.depth_model, depth.model.base) == (None, str(mask.output / "model"))
    assert depth.model.depth_model is not None
    data = DataSettings(annotations=write_tracks(tmp_path / "scenes", 1), frames=4, height=16, width=32)
    first = run(make_recipe(output=tmp_path / "mask", data=data, conditioning_dropout=0.0))
    assert not load_stage(first.model, stage=STAGE).unet.conv_in.weight[:, 8:].any()

    network = str(tiny_depth_folder(tmp_path / "network"))
    computed = make_recipe(
        output=tmp_path / "computed",
        model=replace(depth.model, base=str(first.model), depth_model=network),
        data=replace(data, cache=tmp_path / "cache"),
        optimizer=depth.optimizer,
        conditioning_dropout=0.0,
    )
    learned = load_stage(run(computed).model, stage=STAGE)
    assert learned.unet.conv_in.weight[:, 8:].any()
    assert learned.settings.depth_model == network
    plain = replace(computed, output=tmp_path / "plain", model=replace(computed.model, depth_model=None))
    assert not load_stage(run(plain).model, stage=STAGE).unet.conv_in.weight[:, 8:].any()

    AcceleratorState._reset_state(reset_partial_state=True)
    assert precompute(PrecomputeSettings(**{entry.name: getattr(computed, entry.name) for entry in fields(computed)}))
    monkeypatch.setattr(DepthEstimator, "__call__", lambda *_: pytest.fail("computed again"))
    cached = load_stage(run(replace(computed, output=tmp_path / "cached")).model, stage=STAGE).unet
    torch.testing.assert_close(cached.conv_in.weight, learned.unet.conv_in.weight, atol=1e-7, rtol=0)


def test_one_global_batch_size_for_any_batch_size(make_recipe: MakeSettings, tmp_path: Path) -> None:
    norms = []
    for batch_size, batches in ((1, 4), (2, 2)):
        output = tmp_path / str(batch_size)
        run(make_recipe(output=output, batch_size=batch_size, global_batch_size=4))
        start, step = lines_of(output)
        assert start["batches_per_step"] == batches
        norms.append(step["gradient_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_an_impossible_global_batch_size_is_one_line(
    make_recipe: MakeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_settings(make_recipe(batch_size=3), tmp_path / "run.yaml")
    command = ["--config", str(tmp_path / "run.yaml"), "--global_batch_size", "8"]
    for dry in ([], ["--dry-run"]):
        assert train_main([*command, *dry]) == 2
        assert capsys.readouterr().err == (
            "error: global_batch_size: expected a multiple of 3 clips, which 1 processes x batch_size 3 take at once, "
            "got 8; change batch_size or the number of processes\n"
        )
    with pytest.raises(InputError, match="follows from global_batch_size, expected 1"):
        TrainingSettings(global_batch_size=8, gradient_accumulation_steps=8)
    settings = TrainingSettings(global_batch_size=8)
    assert [settings.batches_per_step(processes) for processes in (1, 2, 8)] == [8, 4, 1]
    with pytest.raises(InputError, match="expected a multiple of 3"):
        settings.batches_per_step(3)


def test_lora_resumes_exactly_and_exports_a_plain_checkpoint(make_recipe: MakeSettings, tmp_path: Path) -> None:
    model = replace(make_recipe().model, trainable="lora", lora=LoraSettings(rank=2))
    optimizer = OptimizerSettings(learning_rate=1e-2, ema_decay=0.5)
    whole = make_recipe(output=tmp_path / "whole", steps=2, model=model, optimizer=optimizer, mixed_precision="bf16")
    first = run(whole)
    halves = replace(whole, output=tmp_path / "halves", max_minutes=1e-9)
    assert run(halves).step == 1
    assert run(replace(halves, max_minutes=0.0)).finished
    one, two = (load_file(tmp_path / name / "checkpoints/00000002/unet.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert {name for name in one if not is_adapter(name)} == {"conv_in.weight", "conv_in.bias"}
    assert all(value.any() for name, value in one.items() if ".lora_B." in name)

    base, exported = build_components(make_recipe()).unet, load_stage(first.model, stage=STAGE).unet
    assert exported.state_dict().keys() == base.state_dict().keys()
    changed = {
        name for name, value in exported.named_parameters() if value.sub(base.get_parameter(name)).abs().max() > 1e-2
    }
    assert any("temporal_transformer_block" in name for name in changed)
    assert all("temporal_transformer_block" in name or name.startswith("conv_in.") for name in changed)


def test_an_absent_tracker_is_one_line(make_recipe: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amodal_diffusion.training.distributed.is_wandb_available", lambda: False)
    with pytest.raises(InputError, match=r"tracker: wandb needs the package wandb; pip install"):
        run(make_recipe(tracker="wandb"))


def test_wandb_gets_figures_and_settings(make_recipe: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    logged: list[dict[str, object]] = []
    for name in ("log", "store_init_configuration"):
        monkeypatch.setattr(f"accelerate.tracking.WandBTracker.{name}", lambda _, values, **__: logged.append(values))
    settings = make_recipe(tracker="wandb")
    run(settings)
    config, figures = logged
    assert config["conditioning_dropout"] == 0.1
    assert figures["learning_rate"] == 1e-2
    assert len(list((settings.output / "wandb").glob("offline-run-*/*.wandb"))) == 1
    assert not (settings.output / "tensorboard").exists()


def test_eight_bit_moments_resume_exactly(make_recipe: MakeSettings, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra bitsandbytes is not installed")
    optimizer = OptimizerSettings(name="adamw8bit", learning_rate=1e-3)
    whole = make_recipe(output=tmp_path / "whole", steps=2, optimizer=optimizer)
    run(whole)
    halves = replace(whole, output=tmp_path / "halves", max_minutes=1e-9)
    assert run(halves).step == 1
    assert run(replace(halves, max_minutes=0.0)).finished
    one, two = (load_file(tmp_path / name / "checkpoints/00000002/unet.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_without_a_tracker_the_log_is_all(make_recipe: MakeSettings) -> None:
    settings = make_recipe(tracker="none")
    run(settings)
    assert len(lines_of(settings.output)) == 2
    assert not (settings.output / "tensorboard").exists()


@pytest.mark.slow
def test_two_processes_take_the_same_step_as_one(make_recipe: MakeSettings, tmp_path: Path) -> None:
    settings = make_recipe(
        output=tmp_path / "two",
        global_batch_size=4,
        mixed_precision="bf16",
        model=replace(make_recipe().model, trainable="lora", gradient_checkpointing=True),
    )
    save_settings(settings, tmp_path / "run.yaml")
    printed = launch("train/train_amodal_segmentation.py", "--config", str(tmp_path / "run.yaml"))
    assert "4 clips a step: 2 processes x batch_size 1 x 2 batches" in printed
    run(replace(settings, output=tmp_path / "one"))
    (start, two), (_, one) = lines_of(tmp_path / "two"), lines_of(tmp_path / "one")
    assert (start["processes"], start["batches_per_step"]) == (2, 2)
    assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-5)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler, and there is none")
def test_a_compiled_run_computes_the_same(
    make_recipe: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[str] = []
    original = torch.nn.Module.compile

    def spy(module: torch.nn.Module, *, mode: str) -> None:
        modes.append(mode)
        original(module, mode=mode)

    monkeypatch.setattr(torch.nn.Module, "compile", spy)
    plain = make_recipe(output=tmp_path / "plain")
    model = replace(plain.model, compile=True, compile_mode="reduce-overhead")
    compiled = replace(plain, output=tmp_path / "compiled", model=model)
    run(plain)
    run(compiled)
    assert modes == ["reduce-overhead"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    norms = [lines_of(settings.output)[1]["gradient_norm"] for settings in (plain, compiled)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    assert load_stage(tmp_path / "compiled/model", stage=STAGE).unet.config.in_channels == 12
