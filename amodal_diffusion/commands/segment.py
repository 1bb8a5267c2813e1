"""`amodal-diffusion segment`: predict the modal masks of objects in a clip from points, boxes or texts."""

from __future__ import annotations

from jsonargparse import Namespace

from amodal_diffusion.completion.request import Clicks, SegmentRequest
from amodal_diffusion.options import add_help, add_options, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "predict modal (visible) masks of objects from points, boxes or texts"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, SegmentRequest, Clicks)
    add_help(parser)


def run(args: Namespace) -> None:
    """Write the masks and print their folder.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an input is wrong.
    """
    from amodal_diffusion.completion.segment import write_segmentation

    print(write_segmentation(read_options(SegmentRequest, args), read_options(Clicks, args)))
