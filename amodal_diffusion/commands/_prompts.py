"""Clicks, boxes and texts on the command line."""

from __future__ import annotations

import re

from jsonargparse import Namespace

from amodal_diffusion.config import CommandParser
from amodal_diffusion.types import InputError
from amodal_diffusion.video.io import ClipReader
from amodal_diffusion.video.mask_files import SINGLE
from amodal_diffusion.video.prompts import Box, Point, Prompts

HOW_TO_GET = (
    "clicks need one, and none ships with this package; name a folder or a hub id, such as facebook/sam2.1-hiera-tiny "
    "or yonigozlan/EdgeTAM-hf (docs/segmenters.md), or give --masks to `complete`"
)
_ENTRY = re.compile(r"(?:(?P<name>[^:@]*):)?(?P<numbers>[^:@]*)(?:@(?P<frame>\d+))?")


def add_prompt_arguments(parser: CommandParser) -> None:
    """Declare what shows objects in a clip, and the segmenter that looks.

    Args:
        parser: of a subcommand.
    """
    group = parser.add_argument_group("clicks: pixels from the upper left corner, in FRAME (0, the first, if left out)")
    for name, metavar, text in (
        ("point", "[ID:]X,Y@FRAME", "a place on the object; ID tells several objects apart (1 if left out)"),
        ("negative-point", "[ID:]X,Y@FRAME", "a place that is not on it, though it might be taken for it"),
        ("box", "[ID:]X0,Y0,X1,Y1@FRAME", "a box around what can be seen of it"),
    ):
        group.add_argument(f"--{name}", metavar=metavar, type=str, nargs="+", action="extend", default=[], help=text)
    group.add_argument(
        "--text",
        type=str,
        nargs="+",
        action="extend",
        default=[],
        help="what to find, such as 'person', with a segmenter that reads; every instance is an object",
    )
    group.add_argument(
        "--segmenter",
        metavar="NAME",
        type=str,
        default=None,
        help="a folder or a hub id, such as facebook/sam2.1-hiera-tiny, or the name of a plug-in",
    )


def read_prompts(args: Namespace) -> Prompts | None:
    """Read what is shown.

    Args:
        args: what :func:`add_prompt_arguments` declares.

    Returns:
        None if nothing is.

    Raises:
        InputError: if a value is not written as the help says.
    """
    prompts = Prompts(
        points=(
            *(_point("--point", value, inside=True) for value in args.point),
            *(_point("--negative-point", value, inside=False) for value in args.negative_point),
        ),
        boxes=tuple(_box(value) for value in args.box),
        texts=tuple(args.text),
    )
    return None if prompts == Prompts() else prompts


def check_prompts(prompts: Prompts | None, segmenter: str | None, clip: ClipReader) -> Prompts:
    """Hold clicks against a clip before any network is loaded.

    Args:
        prompts: what is shown.
        segmenter: name of the segmenter.
        clip: the frames.

    Returns:
        the prompts.

    Raises:
        InputError: if nothing is shown, something does not fit the clip, or no segmenter is named.
    """
    prompts = prompts or Prompts()
    prompts.check(num_frames=clip.num_frames, height=clip.height, width=clip.width)
    if segmenter is None:
        raise InputError(f"--segmenter: {HOW_TO_GET}")
    return prompts


def _point(option: str, value: str, *, inside: bool) -> Point:
    name, (x, y), frame = _read(option, value, "[ID:]X,Y@FRAME", count=2)
    return Point(x, y, frame, inside, name)


def _box(value: str) -> Box:
    name, (left, top, right, bottom), frame = _read("--box", value, "[ID:]X0,Y0,X1,Y1@FRAME", count=4)
    return Box(left, top, right, bottom, frame, name)


def _read(option: str, value: str, form: str, *, count: int) -> tuple[str, list[float], int]:
    match = _ENTRY.fullmatch(value)
    try:
        numbers = [float(number) for number in match["numbers"].split(",")] if match else []
    except ValueError:
        numbers = []
    if match is None or len(numbers) != count:
        example = ",".join(("120", "80", "200", "140")[:count])
        raise InputError(f"{option}: expected {form}, such as {example}@0 or 2:{example}@0, got {value!r}")
    return SINGLE if match["name"] is None else match["name"], numbers, int(match["frame"] or 0)
