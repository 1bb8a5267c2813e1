"""The dry run: every shipped run is shown with a memory plan that holds against what a real step keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForDepthEstimation

from amodal_diffusion.basics import STAGES
from amodal_diffusion.parsing import load_settings
from amodal_diffusion.training import memory_plan
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.loss import training_loss
from amodal_diffusion.training.memory_plan import MemoryPlan, plan_memory, report
from amodal_diffusion.training.networks import build_components, build_unet, prepare_unet
from amodal_diffusion.training.settings import (
    DataSettings,
    LoraSettings,
    ModelSettings,
    OptimizerSettings,
    TrainingSettings,
    UNetSettings,
)
from amodal_diffusion.training.setup import train_main
from tests.factories import TOKEN_WIDTH, tiny_depth_folder, tiny_svd_folder
from tests.training.conftest import MakeSettings

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
RUNS = [
    *sorted(
        path
        for path in CONFIGS.glob("*.yaml")
        if "c2f_seg" not in path.stem and "s_amodal" not in path.stem and "sameo" not in path.stem
    ),
    *(ROOT / f"recipes/tiny/{name}.yaml" for name in STAGES),
]
COUNTED = "debug_cpu"  # a step without numbers takes seconds
QUICK = (COUNTED, "sailvos_stage1_depth", "sailvos_stage2")


@pytest.fixture(scope="module")
def svd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a UNet of one level: a step without numbers takes as long as the network has layers."""
    folder = tiny_svd_folder(tmp_path_factory.mktemp("svd"))
    unet = build_unet(UNetSettings((32,), (0,), 1, 1, (1,), TOKEN_WIDTH, 8), seed=0)
    type(unet).from_config({**unet.config, "in_channels": 8}).save_pretrained(folder / "unet")
    return folder


@pytest.fixture
def count_nothing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Leaves out the steps without numbers; all else of a plan is counted."""

    def leave_out() -> None:
        for name in ("_activations", "_encoding"):
            monkeypatch.setattr(memory_plan, name, lambda *_, **__: 2**30)

    return leave_out


@pytest.fixture
def recipe(make_settings: MakeSettings, svd: Path) -> TrainingSettings:
    return make_settings(
        batch_size=1,
        model=ModelSettings(svd=str(svd)),
        data=DataSettings(frames=1, height=16, width=32),
        optimizer=OptimizerSettings(),
    )


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in RUNS],
)
def test_every_run_is_shown_with_a_plan(
    path: Path,
    svd: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    count_nothing: Callable[[], None],
) -> None:
    if path.stem != COUNTED:
        count_nothing()
    monkeypatch.setattr(memory_plan, "_changes", lambda *_: [("less", 2**20)])  # a plan for each of them
    shipped = load_settings(TrainingSettings, path)
    if shipped.model.svd or shipped.model.base:
        networks = ["--model.svd", str(svd), "--model.base", "null", "--model.vae", "null"]
    else:
        networks = ["--model.vae", str(svd / "vae")]
    assert train_main(["--dry-run", "--config", str(path), *networks], stage=shipped.stage) == 0
    printed = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(printed)
    shown = load_settings(TrainingSettings, tmp_path / "printed.yaml")
    assert (shown.data, shown.optimizer) == (shipped.data, shipped.optimizer)
    assert "memory per process on a GPU" in printed
    assert "total " in printed
    if path.stem.startswith("sailvos"):
        assert "# 8 clips a step: 1 processes x batch_size 1 x 8 batches" in printed
        data = shown.data
        assert (data.frames, data.height, data.width, shown.model.trainable) == (25, 128, 256, "paper")


def test_a_launch_shows_it_once_with_all_its_processes(
    svd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--dry-run", "--config", str(CONFIGS / "sailvos_stage1_mask.yaml"), "--model.svd", str(svd / "none")]
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "0")
    assert train_main(command) == 0
    printed = capsys.readouterr().out
    assert "# 8 clips a step: 4 processes x batch_size 1 x 2 batches" in printed
    assert f"# no memory plan: model {svd / 'none'}: no bundled model, folder or hub id" in printed
    monkeypatch.setenv("RANK", "1")
    assert train_main(command) == 0
    assert capsys.readouterr().out == ""


def test_what_is_held_is_what_a_run_holds(recipe: TrainingSettings) -> None:
    settings = replace(recipe, mixed_precision="bf16", optimizer=OptimizerSettings(ema_decay=0.9))
    plan = plan_memory(settings)
    components = build_components(settings)
    parameters = prepare_unet(components.unet, settings)
    trained = sum(parameter.numel() for parameter in parameters)
    assert plan.parameters == sum(parameter.numel() for parameter in components.unet.parameters())
    assert plan.trained == trained
    assert plan.weights == sum(value.nbytes for value in components.unet.state_dict().values())
    assert (plan.gradients, plan.optimizer, plan.average) == (4 * trained, 8 * trained, 4 * trained)
    others = (components.vae, components.image_encoder)
    assert plan.frozen == sum(value.nbytes for network in others for value in network.state_dict().values())
    assert plan.total == plan.weights + 16 * trained + plan.frozen + max(plan.activations, plan.encoding)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_at_least_what_a_real_step_keeps(recipe: TrainingSettings, checkpointing: bool) -> None:
    settings = replace(recipe, cpu=True, model=replace(recipe.model, gradient_checkpointing=checkpointing))
    planned = plan_memory(settings).activations
    unet = build_components(settings).unet.train()
    prepare_unet(unet, settings)
    own = {value.untyped_storage().data_ptr() for value in unet.parameters()}
    kept: dict[int, int] = {}

    def note(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    data = settings.data
    latent = torch.zeros(1, data.frames, 4, data.height // 2, data.width // 2)
    clip = LatentBatch(latent, latent, latent, torch.zeros(1, data.frames, TOKEN_WIDTH), torch.zeros(1))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        training_loss(
            unet, clip, noise=settings.noise, conditioning_dropout=0.1, generators=[torch.Generator().manual_seed(0)]
        )
    assert planned >= sum(kept.values())
    if not checkpointing:  # with it, the largest block is there once more while it is computed again
        assert planned <= 2 * sum(kept.values())


@pytest.mark.slow
def test_each_change_saves_what_it_says(recipe: TrainingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = cache(plan_memory)
    monkeypatch.setattr(memory_plan, "plan_memory", counted)  # the report asks for the same plans
    plan = counted(recipe)

    def changed(**changes: object) -> MemoryPlan:
        return counted(replace(recipe, **changes))  # type: ignore[arg-type]

    model, data = recipe.model, recipe.data
    assert changed(model=replace(model, gradient_checkpointing=True)).activations < plan.activations
    assert changed(batch_size=2).activations > 1.8 * plan.activations
    narrow = changed(mixed_precision="bf16")
    assert narrow.weights < plan.weights
    assert narrow.activations < plan.activations
    assert changed(optimizer=OptimizerSettings(name="adamw8bit")).optimizer == plan.optimizer / 4
    lora = changed(model=replace(model, trainable="lora", lora=LoraSettings(rank=4)))
    assert lora.trained < plan.trained / 2
    encoded = changed(data=replace(data, cache=Path("cache")))
    assert (encoded.frozen, encoded.encoding) == (0, 0)
    printed = report(recipe, processes=2)
    for change in ("data.cache", "mixed_precision: bf16", "adamw8bit", "gradient_checkpointing", "trainable: lora"):
        (line,) = [line for line in printed.splitlines() if change in line]
        assert " -" in line
    assert "batch_size: 1" not in printed


@pytest.mark.slow
def test_a_depth_network_on_the_same_device_counts(
    recipe: TrainingSettings, tmp_path: Path, count_nothing: Callable[[], None]
) -> None:
    count_nothing()
    model = replace(recipe.model, gradient_checkpointing=True, trainable="lora")  # so that few changes are left
    recipe = replace(recipe, mixed_precision="bf16", model=model)
    folder = tiny_depth_folder(tmp_path / "depth")
    data = replace(recipe.data, annotations=tmp_path / "annotations.json")
    with_depth = replace(recipe, data=data, model=replace(recipe.model, depth_model=str(folder)))
    network = AutoModelForDepthEstimation.from_pretrained(folder)
    assert plan_memory(with_depth).depth == sum(value.nbytes for value in network.state_dict().values())
    assert "data.workers: 2" in report(with_depth, processes=1)
    for other in (
        recipe,
        replace(with_depth, data=replace(data, workers=2)),
        replace(with_depth, model=replace(with_depth.model, depth_model="nobody/nothing")),
    ):
        assert plan_memory(other).depth == 0
