"""The commands of README and guides name things that exist, and parse as the programs would parse them."""

from __future__ import annotations

import re
import runpy
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from amodal_diffusion.config import CommandParser, parse_settings
from amodal_diffusion.training import setup
from amodal_diffusion.training.precompute import precompute_main
from recipes.tiny.autoencoder import VaeSettings
from recipes.tiny.distilled_autoencoder import LightVaeSettings
from tests.documents import DOCUMENTS, ROOT, commands_in

PLAIN = {"source .venv/bin/activate"}
COMMANDS = [command for name in DOCUMENTS for command in commands_in((ROOT / name).read_text(encoding="utf-8"))]


def parse_subcommand(name: str, arguments: list[str]) -> None:
    module = import_module(f"amodal_diffusion.commands.{name}")
    parser = CommandParser()
    module.add_arguments(parser)
    parser.parse_args(arguments)


def check_make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [argument for argument in arguments if "=" not in argument]
    variables = [argument.partition("=")[0] for argument in arguments if "=" in argument]
    assert targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
    assert all(re.search(rf"^{variable} \?=", makefile, flags=re.MULTILINE) for variable in variables)


def check_python(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if arguments[0] == "-m":
        path = ROOT.joinpath(*arguments[1].split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    elif arguments[0].startswith("inference/"):
        assert (ROOT / arguments[0]).is_file()
        parse_subcommand("complete", arguments[1:])
    elif arguments[0].startswith("benchmarks/"):
        assert (ROOT / arguments[0]).is_file()
    else:
        check_training(arguments[0], arguments[1:], capsys)


def check_accelerate(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments[0] == "launch"
    launch = launch_command_parser().parse_args(arguments[1:])
    assert launch.config_file is None or (ROOT / launch.config_file).is_file()
    if launch.module:
        assert launch.training_script == "amodal_diffusion"
        check_python(["-m", launch.training_script], capsys)
        parse_subcommand(launch.training_script_args[0], launch.training_script_args[1:])
        return
    if launch.training_script == "inference/complete_dataset.py":
        assert (ROOT / launch.training_script).is_file()
        parse_subcommand("batch", launch.training_script_args)
        return
    check_training(launch.training_script, launch.training_script_args, capsys)


def check_training(script: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert script.startswith("train/")
    assert (ROOT / script).is_file()
    settings = [str(ROOT / word) if word.startswith("configs/") else word for word in arguments]
    dry = [*(word for word in settings if word != "--dry-run"), "--dry-run"]
    match Path(script).stem:
        case "bundle":
            assert parse_settings(runpy.run_path(str(ROOT / script))["BundleSettings"], settings)
        case "train_vae":
            assert parse_settings(VaeSettings, settings)
        case "train_light_vae":
            assert parse_settings(LightVaeSettings, settings)
        case "precompute":
            assert precompute_main(dry) == 0
        case "train_amodal_segmentation" | "train_content_completion" as name:
            assert setup.train_main(dry) == 0
            assert f"stage: {name.removeprefix('train_')}" in capsys.readouterr().out
        case other:
            pytest.fail(f"no such training script: {other}")


def check(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    while "=" in words[0]:  # variables set for the one command
        words = words[1:]
    match words[0].rpartition("/")[2]:
        case "make":
            check_make(words[1:])
        case "amodal-diffusion":
            parse_subcommand(words[1], words[2:])
        case "python" | "python3":
            check_python(words[1:], capsys)
        case "accelerate":
            check_accelerate(words[1:], capsys)
        case _:
            assert command in PLAIN


@pytest.fixture(autouse=True)
def no_memory_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take a dry run many seconds; tests/training/test_plan.py makes those of all shipped runs."""
    monkeypatch.setattr(setup, "report", lambda *_, **__: "")


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    check(command, capsys)


def test_the_readme_has_the_jobs_a_reader_comes_for() -> None:
    for start in ("make install", "make test", "amodal-diffusion complete", "amodal-diffusion evaluate"):
        assert any(command.startswith(start) for command in COMMANDS)


@pytest.mark.parametrize("command", ["make no-such-target", "amodal-diffusion evaluate --out a --no-such-flag", "rm x"])
def test_a_wrong_command_is_noticed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        check(command, capsys)


def test_links_lead_somewhere() -> None:
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            assert target.startswith("https://") or (ROOT / name).parent.joinpath(target).exists(), target
