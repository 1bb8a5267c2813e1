"""`amodal-diffusion segment`: clicks on objects of a clip in, masks of what can be seen of them out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from jsonargparse import Namespace

from amodal_diffusion.completion.request import model_folder, package_version
from amodal_diffusion.completion.segmentation import (
    add_prompt_arguments,
    check_prompts,
    open_segmenter,
    read_prompts,
    segment_clip,
)
from amodal_diffusion.config import CommandParser
from amodal_diffusion.io.result_folder import InputRecord, OutputFolder
from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.types import InputError

SUMMARY = "turn clicks on objects into masks of what can be seen of them"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument("clip", metavar="CLIP", type=Path, help="a video file, a folder of pictures, or one picture")
    parser.add_argument(
        "--out", metavar="MASKS", type=Path, required=True, help="a folder of PNG for each object, whole or absent"
    )
    add_prompt_arguments(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16, bfloat16")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in MASKS")
    parser.add_argument("--allow-truncated", action="store_true", help="go on with what decodes of a damaged video")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def run(args: Namespace) -> None:
    """Do the work.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an input is wrong; says what and what to do.
    """
    prompts = read_prompts(args)
    if args.clip.is_dir() and args.out.resolve().is_relative_to(args.clip.resolve()):
        raise InputError(f"out: {args.out}: lies in {args.clip}, which is input; choose another folder")
    clip = open_clip(args.clip, allow_truncated=args.allow_truncated)
    prompts = check_prompts(prompts, args.segmenter, clip)
    weights = model_folder(args.segmenter)
    folder = OutputFolder(
        args.out,
        inputs={"clip": InputRecord.of(args.clip), **({"segmenter": InputRecord.of(weights)} if weights else {})},
        settings={
            "prompts": asdict(prompts),
            "segmenter": args.segmenter,
            "dtype": args.dtype,
            "version": package_version(),
        },
        overwrite=args.overwrite,
    )
    segmenter = open_segmenter(args.segmenter, device=args.device, dtype=args.dtype, quiet=args.quiet)
    with folder.opened() as out:
        segment_clip(clip, prompts, lambda: segmenter, out, quiet=args.quiet)
        out.commit()
    print(args.out)
