"""Training of any method by its settings file: `python -m amodal_diffusion.training --config FILE`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from amodal_diffusion.basics import InputError
from amodal_diffusion.parsing import dump_settings
from amodal_diffusion.pipelines.methods import DIFFUSION

if TYPE_CHECKING:
    from amodal_diffusion.training.loop import TrainingResult


@dataclass(frozen=True)
class Program:
    """How a method is trained.

    Attributes:
        settings: module and class of its settings.
        setup: module with ``read_settings``, which takes a command line, and ``train``, which takes the settings.
    """

    settings: tuple[str, str]
    setup: str


PROGRAMS = {
    DIFFUSION: Program(("amodal_diffusion.training.settings", "TrainingSettings"), "amodal_diffusion.training.setup"),
    "c2f-seg": Program(
        ("amodal_diffusion.training.c2f_seg.settings", "C2FTrainingSettings"), "amodal_diffusion.training.c2f_seg.setup"
    ),
    "s-amodal": Program(
        ("amodal_diffusion.training.s_amodal.settings", "SAModalTrainingSettings"),
        "amodal_diffusion.training.s_amodal.setup",
    ),
    "sameo": Program(
        ("amodal_diffusion.training.sameo.settings", "SameoTrainingSettings"), "amodal_diffusion.training.sameo.setup"
    ),
}
"""By the name of the method."""


def program_of(path: Path) -> str:
    """The method that a settings file trains: the one that knows most of the file's keys, diffusion if several do.

    Args:
        path: YAML file.

    Raises:
        InputError: if the file cannot be read or holds no settings.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"config: {path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise InputError(f"config: {path}: expected the settings of a training run, got {type(values).__name__}")
    if "stage" in values:
        return DIFFUSION  # without the other methods' settings, which import torch
    known = {name: len(_keys(program) & values.keys()) for name, program in PROGRAMS.items()}
    return max(known, key=lambda name: known[name])


def _keys(program: Program) -> set[str]:
    """Names of the settings."""
    module, name = program.settings
    return {entry.name for entry in fields(getattr(import_module(module), name))}


def main(args: Sequence[str]) -> int:
    """Train what the settings file of a command line says.

    Args:
        args: ``--config FILE`` and settings that beat the file, as for the scripts in ``train/``.

    Returns:
        exit status, see :func:`~amodal_diffusion.training.setup.exit_status`.
    """
    from amodal_diffusion.training.setup import exit_status, show

    def program() -> TrainingResult | None:
        files = [after for flag, after in pairwise([*args, ""]) if flag == "--config"]
        files += [flag.partition("=")[2] for flag in args if flag.startswith("--config=")]
        method = program_of(Path(files[-1])) if files else DIFFUSION
        setup = import_module(PROGRAMS[method].setup)
        settings = setup.read_settings(args)
        if not settings.dry_run:
            result: TrainingResult = setup.train(settings)
            return result
        if method == DIFFUSION:
            show(settings)
        elif os.environ.get("RANK", "0") == "0":
            sys.stdout.write(dump_settings(settings))
        return None

    return exit_status(program)
