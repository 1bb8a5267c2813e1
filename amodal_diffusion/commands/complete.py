"""`amodal-diffusion complete`: a clip and the masks of what can be seen in, whole objects out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from amodal_diffusion.commands._sampling import add_sampling_options
from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.request import CompletionRequest, read_formats
from amodal_diffusion.completion.segmentation import add_prompt_arguments, read_prompts
from amodal_diffusion.config import CommandParser

SUMMARY = "complete partly hidden objects in a clip"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument("clip", metavar="CLIP", type=Path, help="a video file, a folder of pictures, or one picture")
    parser.add_argument(
        "--masks",
        metavar="MASKS",
        type=Path,
        default=None,
        help="what can be seen, if not shown by clicks: a folder of PNG (0/255: one object; a palette or several grey "
        "values: one object each), a mask video, a video of labels without loss, a COCO or YouTube-VIS JSON file, or a "
        "folder of folders of PNG, one per object",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the results, whole or absent")
    parser.add_argument("--object", metavar="ID", type=str, default=None, help="complete this object alone")
    parser.add_argument(
        "--amodal-masks", metavar="DIR", type=Path, default=None, help="whole masks are known: paint only"
    )
    add_options(parser)
    add_prompt_arguments(parser)


def add_options(parser: CommandParser) -> None:
    """Declare what does not name a clip, its masks or their objects.

    Args:
        parser: of a subcommand that completes clips.
    """
    parser.add_argument("--stages", choices=["masks", "all"], default="all", help="masks: leave the painting out")
    parser.add_argument(
        "--expand",
        metavar="SHARE",
        type=NonNegativeFloat,
        default=0.0,
        help="complete what the border cuts off as well, on a canvas with margins of this share of the frame's sides",
    )
    parser.add_argument(
        "--objects-at-once", metavar="N", type=PositiveInt, default=1,
        help="objects of a clip that are completed at the same time, their windows as rows of one network call; each "
        "takes the memory of its own windows",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in DIR")
    parser.add_argument("--allow-truncated", action="store_true", help="go on with what decodes of a damaged video")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")

    files = parser.add_argument_group("files")
    files.add_argument(
        "--formats",
        metavar="LIST",
        default="png",
        help="with commas: png (RGBA pictures), prores (ProRes 4444 MOV), webm (VP9 with alpha), masks-mp4, davis "
        "(palette PNG), coco, youtube-vis (JSON); whole masks as 0/255 PNG are always written",
    )
    files.add_argument(
        "--alpha",
        choices=["straight", "premultiplied"],
        default="straight",
        help="of layers, into their colours or not",
    )
    files.add_argument(
        "--soft-edge",
        metavar="N",
        type=NonNegativeInt,
        default=0,
        help="pixels around objects over which the alpha of layers falls to 0; their own pixels stay as they are",
    )
    files.add_argument("--audio", action="store_true", help="carry the clip's sound into the videos")

    model = parser.add_argument_group("model")
    model.add_argument("--model", metavar="NAME", default="tiny", help="a bundled name, a folder, or a hub id")
    model.add_argument("--content-model", metavar="NAME", type=str, default=None, help="for the painting, if another")
    model.add_argument(
        "--conditioning",
        choices=["corrected", "released"],
        default="corrected",
        help="released: repeat the reference's inference, for the paper's numbers from the published checkpoints",
    )
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    model.add_argument("--dtype", default="auto", help="auto, float32, float16, bfloat16")

    depth = parser.add_argument_group("depth")
    depth.add_argument(
        "--depth",
        metavar="auto|none|PATH",
        default="auto",
        help="auto: estimate it if there is a depth model; PATH: a folder of 16-bit PNG or an .npy file [F,H,W], "
        "nearer is larger",
    )
    depth.add_argument("--depth-inverse", action="store_true", help="the depth is a distance: nearer is smaller")
    depth.add_argument("--depth-model", metavar="NAME", type=str, default=None, help="instead of the checkpoint's own")

    add_sampling_options(parser)
    sampling = parser.add_argument_group("size and answers")
    sampling.add_argument("--height", metavar="H", type=PositiveInt, default=None, help="the model works at")
    sampling.add_argument("--width", metavar="W", type=PositiveInt, default=None, help="the model works at")
    sampling.add_argument("--seed", metavar="S", type=NonNegativeInt, default=0, help="the same seed, the same result")
    sampling.add_argument(
        "--samples", metavar="K", type=PositiveInt, default=1,
        help="answers of stage 1: the result is what most of them have; beside it their masks, a video of where they "
        "differ, and how well they agree",
    )  # fmt: skip
    sampling.add_argument(
        "--spans", choices=["auto", "all"], default=None,
        help="auto: the networks see only the frames in which an object can be hidden, and some around them; all: they "
        "see every frame; by default auto, and all with --conditioning released",
    )  # fmt: skip
    sampling.add_argument(
        "--guards", metavar="LIST", type=str, default=None,
        help="against invented shape: all, none, or some of behind, attached, growth, separated by commas; by default "
        "all, and none with --conditioning released",
    )  # fmt: skip
    sampling.add_argument(
        "--copies", choices=["on", "off"], default=None,
        help="on: what other frames show of the hidden part is copied as far as that can be relied on; by default as "
        "the checkpoint of the painting says, and off with --conditioning released",
    )  # fmt: skip


def run(args: Namespace) -> None:
    """Do the work.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an input is wrong; says what and what to do.
    """
    request = build_request(
        args, clip=args.clip, masks=args.masks, object_name=args.object, amodal_masks=args.amodal_masks
    )
    print(complete_clip(replace(request, prompts=read_prompts(args), segmenter=args.segmenter)))


def build_request(
    args: Namespace, *, clip: Path, masks: Path | None, object_name: str | None = None, amodal_masks: Path | None = None
) -> CompletionRequest:
    """Put together what to do.

    Args:
        args: ``--out`` and what :func:`add_options` declares.
        clip: of the request, like the following.
        masks: of what can be seen; None where clicks are to make them.
        object_name: the only object to complete.
        amodal_masks: whole masks, to paint only.
    """
    return CompletionRequest(
        clip=clip,
        masks=masks,
        out=args.out,
        object_name=object_name,
        stages=args.stages,
        amodal_masks=amodal_masks,
        expand=args.expand,
        model=args.model,
        content_model=args.content_model,
        conditioning=args.conditioning,
        device=args.device,
        dtype=args.dtype,
        depth=args.depth,
        depth_inverse=args.depth_inverse,
        depth_model=args.depth_model,
        preset=args.preset,
        steps=args.steps,
        guidance=args.guidance,
        solver=args.solver,
        height=args.height,
        width=args.width,
        seed=args.seed,
        samples=args.samples,
        spans=args.spans,
        guards=None if args.guards is None else tuple(name.strip() for name in args.guards.split(",")),
        copies=args.copies,
        formats=read_formats(args.formats),
        alpha=args.alpha,
        soft_edge=args.soft_edge,
        audio=args.audio,
        objects_at_once=args.objects_at_once,
        overwrite=args.overwrite,
        allow_truncated=args.allow_truncated,
        quiet=args.quiet,
    )
