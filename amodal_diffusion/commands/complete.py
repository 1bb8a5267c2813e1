"""`amodal-diffusion complete`: complete occluded objects, given a clip and their modal masks."""

from __future__ import annotations

from jsonargparse import Namespace

from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.memory import memory_report
from amodal_diffusion.completion.request import GROUPS, RENAMED, CompletionRequest
from amodal_diffusion.config import CommandParser
from amodal_diffusion.options import add_help, add_options, read_options

SUMMARY = "complete partly occluded objects in a clip"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, *GROUPS.values(), renamed=RENAMED)
    add_help(parser)


def run(args: Namespace) -> None:
    """Complete the clip and print the result folder, or the memory that this takes.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an input is wrong.
    """
    request = CompletionRequest(**{name: read_options(group, args) for name, group in GROUPS.items()})
    print(memory_report(request) if request.source.dry_run else complete_clip(request))
