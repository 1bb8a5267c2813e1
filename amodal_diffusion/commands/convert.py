"""`amodal-diffusion convert`: a checkpoint of another layout into this package's."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from amodal_diffusion.completion.libraries import quieten_libraries
from amodal_diffusion.config import CommandParser
from amodal_diffusion.types import STAGES

SUMMARY = "write a checkpoint of the released layout in this package's layout"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument("src", metavar="SRC", type=str, help="a folder or a hub id, in any layout that can be read")
    parser.add_argument("dst", metavar="DST", type=Path, help="model folder; the checkpoint becomes DST/STAGE")
    parser.add_argument("--stage", choices=list(STAGES), default=STAGES[0], help="what SRC was trained for")


def run(args: Namespace) -> None:
    """Do the work.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if SRC cannot be read or DST holds this stage already.
    """
    quieten_libraries(quiet=False)
    from amodal_diffusion.models.saving import convert

    convert(args.src, args.dst, stage=args.stage)
    print(args.dst / args.stage)
