"""`amodal-diffusion segment`: clicks on objects of a clip in, masks of their visible parts out."""

from __future__ import annotations

from jsonargparse import Namespace

from amodal_diffusion.completion.request import Clicks
from amodal_diffusion.completion.segment import SegmentRequest, write_segmentation
from amodal_diffusion.config import CommandParser
from amodal_diffusion.options import add_help, add_options, read_options

SUMMARY = "turn clicks on objects into masks of their visible parts"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    add_options(parser, SegmentRequest, Clicks)
    add_help(parser)


def run(args: Namespace) -> None:
    """Write the masks and print their folder.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an input is wrong; says what and what to do.
    """
    print(write_segmentation(read_options(SegmentRequest, args), read_options(Clicks, args)))
