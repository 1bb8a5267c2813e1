"""The commands: mistakes, dry run, two processes, and the scripts that show the steps."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DDPCommunicationHookType

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.parsing import load_settings, save_settings
from amodal_diffusion.training.distributed import make_accelerator
from amodal_diffusion.training.precompute import precompute_main
from amodal_diffusion.training.settings import CommHook, ModelSettings, TrainingSettings, ValidationSettings
from amodal_diffusion.training.setup import train, train_main
from tests.training.conftest import MakeSettings
from tests.training.launching import ROOT, fork


@pytest.fixture
def config(make_settings: MakeSettings, tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    save_settings(make_settings(), path)
    return path


def test_a_compiled_run_is_validated_as_it_is_trained() -> None:
    with pytest.raises(InputError, match=r"model\.compile: expected false beside sampling\.conditioning released"):
        TrainingSettings(model=ModelSettings(compile=True), sampling=SamplingConfig(conditioning="released"))


def test_dry_run_prints_settings_that_load_back(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amodal_diffusion.training.setup.report", lambda *_, **__: "# the memory plan\n")
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


@pytest.mark.parametrize("program", ["train", "precompute"])
def test_every_program_waits_for_all_processes_and_then_ends(
    program: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for name in ("wait_for_everyone", "end_training"):
        monkeypatch.setattr(Accelerator, name, lambda _, name=name: called.append(name))
    settings = load_settings(TrainingSettings, config)
    match program:
        case "train":
            train(replace(settings, steps=1))
        case "precompute":
            precompute_main(["--config", str(config), "--out", str(tmp_path / "out"), "--count", "1"])
    assert called[-2:] == ["wait_for_everyone", "end_training"]
    assert called.count("end_training") == 1


def test_two_processes_share_out_the_encoding_and_the_script_gives_the_same_bytes(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    printed = fork("precompute", tmp_path, "--config", str(config), "--out", str(two), "--count", "4")
    assert printed.count("2 of 2 clips of this process, 2 files written") == 2
    arguments = ["--config", str(config), "--count", "4", "--out"]
    assert run_script("train/precompute.py", [*arguments, str(one)], monkeypatch) == 0
    files = {path.relative_to(two): path.read_bytes() for path in two.glob("??/*.safetensors")}
    assert len(files) == 4
    assert {path.relative_to(one): path.read_bytes() for path in one.glob("??/*.safetensors")} == files
    (one / next(iter(files))).unlink()
    assert run_script("train/precompute.py", [*arguments, str(one), "--verify"], monkeypatch) == 1


@pytest.mark.parametrize("stage", ["amodal_segmentation", "content_completion"])
def test_the_script_that_shows_the_steps_gives_the_same_bytes(
    stage: Stage, make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(stage=stage, steps=1, tracker="none", validation=ValidationSettings(every=1, clips=1))
    save_settings(settings, tmp_path / "run.yaml")
    train(replace(settings, output=tmp_path / "package"))
    script = f"train/train_{stage}.py"
    assert run_script(script, ["--config", str(tmp_path / "run.yaml")], monkeypatch) == 0
    ours, theirs = tmp_path / "package", settings.output
    for file in ("model/unet/diffusion_pytorch_model.safetensors", "validation/00000001.png"):
        assert [path.read_bytes() for path in ours.rglob(file)] == [path.read_bytes() for path in theirs.rglob(file)]
    assert list(theirs.rglob("*.safetensors"))
    assert load_settings(TrainingSettings, theirs / "settings.yaml") == settings
    other = next(name for name in STAGES if name != stage)
    assert run_script(script, ["--config", str(tmp_path / "run.yaml"), "--stage", other], monkeypatch) == 2


def run_script(name: str, args: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Run a script in this process; its exit status."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(sys, "argv", [name, *args])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / name), run_name="__main__")
    return stop.value.code


@pytest.mark.parametrize("hook", ["none", "bf16"])
def test_gradients_of_several_gpus_can_be_summed_in_bfloat16(hook: CommHook, monkeypatch: pytest.MonkeyPatch) -> None:
    class Made(Exception):  # noqa: N818 - no error: what would be made here needs a GPU
        pass

    def refuse(**options: Any) -> None:
        raise Made(options["kwargs_handlers"][0].comm_hook)

    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("amodal_diffusion.training.distributed.Accelerator", refuse)
    with pytest.raises(Made) as made:
        make_accelerator("bf16", comm_hook=hook)
    assert made.value.args == (DDPCommunicationHookType.BF16 if hook == "bf16" else DDPCommunicationHookType.NO,)


def test_a_hook_without_gpus_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^ddp_comm_hook: bf16 needs GPUs \(NCCL sums in bfloat16\); give none$"):
        make_accelerator("no", cpu=True, comm_hook="bf16")


@pytest.mark.parametrize("launch", ["FSDP", "DEEPSPEED"])
def test_a_hook_is_refused_where_gradients_are_not_its(launch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{launch}", "true")
    with pytest.raises(InputError, match="ddp_comm_hook: expected none with FSDP and DeepSpeed, got bf16"):
        make_accelerator("no", cpu=True, comm_hook="bf16")
