"""`amodal-diffusion train`: a training run on one machine, in as many processes as it has GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from amodal_diffusion.options import add_options, option, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "train a method by a settings file, on one machine"


@dataclass(frozen=True)
class TrainingRun:
    """Training.

    Attributes:
        config: settings of the run, such as configs/debug_cpu.yaml; `amodal-diffusion configs` writes the shipped ones
        set: values in place of the file's, such as steps=2000 data.images=frames
        processes: processes of this machine, one for each GPU; on a CPU one
        dry_run: print the settings, and of the two diffusion stages the memory that they need, and exit
    """

    config: Path = option(metavar="CONFIG", positional=True, read=Path)
    set: Sequence[str] = option((), metavar="KEY=VALUE", several=True)
    processes: PositiveInt | None = option(None, metavar="N")
    dry_run: bool = option(False)


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, TrainingRun)


def run(args: Namespace) -> int:
    """Train, and return the exit status of the run.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if the settings file does not exist, or a value is no KEY=VALUE.
    """
    from amodal_diffusion.training.launch import launch

    chosen = read_options(TrainingRun, args)
    return launch(chosen.config, chosen.set, processes=chosen.processes, dry_run=chosen.dry_run)
