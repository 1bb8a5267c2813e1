"""The commands of README and guides name things that exist, and parse as the programs would parse them."""

from __future__ import annotations

import functools
import re
import runpy
import shlex
from dataclasses import is_dataclass
from importlib import import_module
from typing import TypeVar

import pytest
from accelerate.commands.launch import launch_command_parser

from amodal_diffusion.parsing import CommandParser, parse_settings
from amodal_diffusion.training.precompute import PrecomputeSettings
from amodal_diffusion.training.settings import TrainingSettings
from tests.documents import DOCUMENTS, ROOT, commands_in, read

PLAIN = {"source .venv/bin/activate"}
SCRIPTS = ("benchmarks/", "docs/", "inference/")
S = TypeVar("S")
STAGES = {f"train/train_{stage}.py": stage for stage in ("amodal_segmentation", "content_completion")}
COMMANDS = sorted({command for name in DOCUMENTS for command in commands_in(read(name))})


def check_subcommand(name: str, arguments: list[str]) -> None:
    parser_of(name).parse_args(arguments)


@functools.cache
def parser_of(name: str) -> CommandParser:
    module = import_module(f"amodal_diffusion.commands.{name}")
    parser = CommandParser()
    module.add_arguments(parser)
    return parser


def check_make(arguments: list[str]) -> None:
    makefile = read("Makefile")
    targets = [argument for argument in arguments if "=" not in argument]
    variables = [argument.partition("=")[0] for argument in arguments if "=" in argument]
    assert targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
    assert all(re.search(rf"^{variable} \?=", makefile, flags=re.MULTILINE) for variable in variables)


def check_program(arguments: list[str]) -> None:
    """A script, or `-m MODULE`, and its arguments."""
    if arguments[:2] == ["-m", "amodal_diffusion"]:
        check_subcommand(arguments[2], arguments[3:])
    elif arguments[0] == "-m":
        path = ROOT.joinpath(*arguments[1].split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    elif arguments[0] in STAGES:
        assert read_settings(TrainingSettings, arguments[1:]).stage == STAGES[arguments[0]]
    elif arguments[0] == "train/precompute.py":
        assert read_settings(PrecomputeSettings, arguments[1:])
    elif arguments[0].startswith("recipes/"):
        assert read_settings(settings_of(arguments[0]), arguments[1:])
    else:
        check_script(arguments[0], arguments[1:])


def read_settings(cls: type[S], arguments: list[str]) -> S:
    """Settings of a run, whose YAML files lie in the checkout."""
    shipped = ("configs/", "recipes/")
    return parse_settings(cls, [str(ROOT / word) if word.startswith(shipped) else word for word in arguments])


@functools.cache
def settings_of(script: str) -> type[object]:
    """The only dataclass of settings that a script defines or imports."""
    names = runpy.run_path(str(ROOT / script))
    (found,) = (value for name, value in names.items() if name.endswith("Settings") and is_dataclass(value))
    assert isinstance(found, type)
    return found


def check_script(name: str, arguments: list[str]) -> None:
    """A script and the options that it names, which stand in it or are those of `complete`."""
    assert name.startswith(SCRIPTS)
    source = read(name).replace("-", "_")
    options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    others = [option for option in options if option[2:].replace("-", "_") not in source]
    assert set(others) <= set(parser_of("complete")._option_string_actions), others


def check_accelerate(arguments: list[str]) -> None:
    assert arguments[0] == "launch"
    launch = launch_command_parser().parse_args(arguments[1:])
    assert launch.config_file is None or (ROOT / launch.config_file).is_file()
    check_program([*(["-m"] if launch.module else []), launch.training_script, *launch.training_script_args])


def check(command: str) -> None:
    words = shlex.split(command)
    while "=" in words[0]:  # variables set for the one command
        words = words[1:]
    match words[0].rpartition("/")[2]:
        case "make":
            check_make(words[1:])
        case "amodal-diffusion":
            check_subcommand(words[1], words[2:])
        case "python" | "python3":
            check_program(words[1:])
        case "accelerate":
            check_accelerate(words[1:])
        case _:
            assert command in PLAIN


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str) -> None:
    check(command)


def test_the_readme_has_the_jobs_a_reader_comes_for() -> None:
    commands = commands_in(read("README.md"))
    for start in ("make install", "amodal-diffusion app", "amodal-diffusion complete", "amodal-diffusion evaluate"):
        assert any(command.startswith(start) for command in commands)


@pytest.mark.parametrize("command", ["make no-such-target", "amodal-diffusion evaluate --out a --no-such-flag", "rm x"])
def test_a_wrong_command_is_noticed(command: str) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        check(command)


def test_links_lead_somewhere() -> None:
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", read(name)):
            assert target.startswith("https://") or (ROOT / name).parent.joinpath(target).exists(), (name, target)


def test_anchors_lead_to_headings() -> None:
    for name in DOCUMENTS:
        headings = {
            re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", read(name), flags=re.MULTILINE)
        }
        assert set(re.findall(r"\]\(#([^)]+)\)", read(name))) <= headings, name
