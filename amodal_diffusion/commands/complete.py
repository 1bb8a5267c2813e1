"""`amodal-diffusion complete`: complete occluded objects, given a clip and their modal masks."""

from __future__ import annotations

import time

from jsonargparse import Namespace

from amodal_diffusion.completion.option_values import MEANT
from amodal_diffusion.completion.request import GROUPS, RENAMED, CompletionRequest
from amodal_diffusion.options import add_help, add_options, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "complete partly occluded objects in a clip"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, *GROUPS.values(), renamed=RENAMED)
    parser.moved = MEANT
    parser.stray = "--masks"
    add_help(parser)


def run(args: Namespace) -> None:
    """Complete the clip and print what was done, or the memory that this takes; the last line is the result folder.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an input is wrong.
    """
    request = CompletionRequest(**{name: read_options(group, args) for name, group in GROUPS.items()})
    request.source.check_paths()  # before the imports below, which take seconds
    from amodal_diffusion.completion.clip import complete_clip
    from amodal_diffusion.completion.memory import memory_report
    from amodal_diffusion.completion.report import describe_result, gathered_warnings

    if request.source.dry_run:
        print(memory_report(request))
        return
    started = time.perf_counter()
    with gathered_warnings() as warnings:
        out = complete_clip(request)
    seconds = time.perf_counter() - started
    print(out if request.output.quiet else describe_result(out, seconds=seconds, warnings=warnings))
