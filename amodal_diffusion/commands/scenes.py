"""`amodal-diffusion scenes`: write procedural clips with complete ground truth in the SAIL-VOS sequence layout."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from amodal_diffusion.completion.request import package_version
from amodal_diffusion.config import CommandParser

SUMMARY = "write procedural clips with complete ground truth"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    parser.add_argument("out", metavar="OUT", type=Path, help="new or empty folder for the clips and annotations.json")
    parser.add_argument("--count", metavar="N", type=PositiveInt, required=True, help="number of clips")
    parser.add_argument(
        "--split", choices=["train", "validation", "test-v1"], default="train", help="split, each with its own shapes"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="seed of the clips")
    parser.add_argument(
        "--frames", type=PositiveInt | None, default=None, help="frames per clip (default: 25, or 16 for test-v1)"
    )
    parser.add_argument("--height", type=PositiveInt, default=64, help="height of the frames in pixels")
    parser.add_argument("--width", type=PositiveInt, default=128, help="width of the frames in pixels")
    parser.add_argument(
        "--masks", action="store_true", help="also write masks as images, as `amodal-diffusion prepare` reads them"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in OUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress bars")


def run(args: Namespace) -> None:
    """Write the clips; the same command resumes an interrupted run.

    Args:
        args: options of :func:`add_arguments`.

    Raises:
        InputError: if an option is wrong or OUT is not empty.
    """
    from amodal_diffusion.data.scene_export import ANNOTATIONS, export_scenes
    from amodal_diffusion.io.result_folder import OutputFolder
    from amodal_diffusion.synthetic import splits

    frames = args.frames or (splits.FRAMES if args.split == "test-v1" else 25)
    series = splits.SceneSeries(
        args.split, length=args.count, frames=frames, height=args.height, width=args.width, seed=args.seed
    )
    settings = {"command": "scenes", **vars(series), "masks": args.masks, "version": package_version()}
    folder = OutputFolder(args.out, inputs={}, settings=settings, overwrite=args.overwrite)
    with folder.opened():
        tracks = export_scenes(series, folder, masks=args.masks, quiet=args.quiet)
        folder.commit()
    print(f"{args.out}: {series.length} clips; {ANNOTATIONS} lists {tracks} tracks")
