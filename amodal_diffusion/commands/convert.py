"""`amodal-diffusion convert`: convert a checkpoint to this package's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace

from amodal_diffusion.basics import STAGES, Stage
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.options import add_options, option, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "convert a released checkpoint to this package's layout"


@dataclass(frozen=True)
class Conversion:
    """Conversion.

    Attributes:
        src: folder or Hugging Face Hub ID of a checkpoint in any supported layout
        dst: model folder; the checkpoint is written to DST/STAGE
        stage: stage that SRC was trained for
    """

    src: str = option(metavar="SRC", positional=True)
    dst: Path = option(metavar="DST", positional=True)
    stage: Stage = option(STAGES[0], choices=STAGES)


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, Conversion)


def run(args: Namespace) -> None:
    """Write the checkpoint and print its folder.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if SRC cannot be read, or DST already contains this stage.
    """
    quieten_libraries(quiet=False)
    from amodal_diffusion.models.saving import convert

    chosen = read_options(Conversion, args)
    convert(chosen.src, chosen.dst, stage=chosen.stage)
    print(chosen.dst / chosen.stage)
