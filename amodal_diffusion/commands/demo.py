"""`amodal-diffusion demo`: complete a generated scene of the test split and score it against the ground truth."""

from __future__ import annotations

from jsonargparse import Namespace

from amodal_diffusion.completion.demo import Demo, run_demo
from amodal_diffusion.options import add_options, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "complete an occluded object in a generated clip and compare it with the ground truth"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, Demo)


def run(args: Namespace) -> None:
    """Complete the scene and print a table of scores.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an option is wrong, the model cannot be loaded, or the result folder is not empty.
    """
    print(run_demo(read_options(Demo, args)))
