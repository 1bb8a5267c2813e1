"""`amodal-diffusion batch`: complete all clips of a list, in one process, a launch of several, or on Ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace

from amodal_diffusion.basics import Cuts
from amodal_diffusion.completion.option_values import MEANT, read_cuts
from amodal_diffusion.completion.request import GROUPS, RENAMED, CompletionRequest, Source
from amodal_diffusion.completion.run_options import RunOptions
from amodal_diffusion.completion.storage_options import StorageOptions, read_location
from amodal_diffusion.io.urls import Location
from amodal_diffusion.options import add_help, add_options, option, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "complete all clips of a list, on one or more processes and machines"
_OWN = {name: group for name, group in GROUPS.items() if name not in ("source", "clicks")}


@dataclass(frozen=True)
class ClipSource:
    """Input.

    Attributes:
        input: .jsonl, .csv or .txt file with one clip per line: the paths or URLs of the clip and its masks, and
            optionally of its depth, an object, a name, and numbers of frames and objects; see docs/data.md
        allow_truncated: accept damaged videos and use the frames that decode
        cuts: hard cuts, which nothing crosses: found by the colors, none, or the first frames of new shots, such as
            24,80
    """

    input: Location = option(metavar="LIST", read=read_location)
    allow_truncated: bool = option(False, advanced=True)
    cuts: Cuts = option("auto", metavar="auto|none|LIST", read=read_cuts, advanced=True)


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, ClipSource, RunOptions, StorageOptions, *_OWN.values(), renamed=RENAMED)
    parser.moved = MEANT
    add_help(parser)


def run(args: Namespace) -> int:
    """Complete the clips.

    Args:
        args: what :func:`add_arguments` declares.

    Returns:
        exit status: 0 on success; 1 if a clip failed; 2 in a distributed launch if no clip could be started.

    Raises:
        InputError: if an option or the list is wrong.
    """
    from amodal_diffusion.completion.batch import complete_list

    clips = read_options(ClipSource, args)
    source = Source(clip=Path(), allow_truncated=clips.allow_truncated, cuts=clips.cuts)
    groups = {name: read_options(group, args) for name, group in _OWN.items()}
    base = CompletionRequest(source=source, **groups)
    return complete_list(clips.input, base, read_options(RunOptions, args), read_options(StorageOptions, args))
