"""`amodal-diffusion scenes`: write generated clips with complete ground truth in the SAIL-VOS sequence layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from amodal_diffusion.basics import InputError
from amodal_diffusion.options import package_version
from amodal_diffusion.parsing import CommandParser

if TYPE_CHECKING:
    from amodal_diffusion.data.scene_export import ExportedSeries

SUMMARY = "write generated clips with complete ground truth"
SPLITS = ("train", "validation", "test-v1", "composites-train", "composites-validation", "test-v2")


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    parser.add_argument("out", metavar="OUT", type=Path, help="new or empty folder for the clips and annotations.json")
    parser.add_argument(
        "--count", metavar="N", type=PositiveInt | None, default=None,
        help="number of clips (by default all 200 of test-v1 and test-v2; required for other splits)",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=SPLITS, default="train",
        help="split, each with its own shapes; composites and test-v2 are made of cut-outs",
    )  # fmt: skip
    parser.add_argument(
        "--cutouts", metavar="FOLDER", type=Path | None, default=None,
        help="cut-outs, for composites and test-v2; recipes/tiny/README.md says how to collect them",
    )  # fmt: skip
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="seed of the clips")
    parser.add_argument(
        "--frames", type=PositiveInt | None, default=None, help="frames per clip (default: 25, or 16 for test-v1)"
    )
    parser.add_argument(
        "--height", type=PositiveInt | None, default=None,
        help="height of the frames in pixels (default: 64, or 128 for composites and test-v2)",
    )  # fmt: skip
    parser.add_argument(
        "--width", type=PositiveInt | None, default=None,
        help="width of the frames in pixels (default: 128, or 256 for composites and test-v2)",
    )  # fmt: skip
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
        InputError: if an option is wrong, pictures of test-v2 are missing or differ, or OUT is not empty.
    """
    from amodal_diffusion.data.scene_export import ANNOTATIONS, export_scenes
    from amodal_diffusion.io.result_folder import InputRecord, OutputFolder
    from amodal_diffusion.synthetic import splits
    from amodal_diffusion.synthetic.composites import frozen

    composites = args.split in SPLITS[3:]
    count = args.count
    if count is None and args.split in ("test-v1", "test-v2"):
        count = frozen.CLIPS if composites else len(splits.seeds_of_test_v1())
    if count is None:
        raise InputError(f"--count: expected a number of clips for --split {args.split}, got none")
    height, width = (frozen.HEIGHT, frozen.WIDTH) if composites else (splits.HEIGHT, splits.WIDTH)
    size = {
        "frames": args.frames or (splits.FRAMES if args.split == "test-v1" else 25),
        "height": args.height or height,
        "width": args.width or width,
    }
    series = _composites(args, count, size) if composites else _scenes(args, count, size)
    settings = {"command": "scenes", "split": args.split, "length": count, **size, "seed": args.seed}
    folder = OutputFolder(
        args.out,
        inputs={"cutouts": InputRecord.of(args.cutouts)} if composites else {},
        settings={**settings, "masks": args.masks, "version": package_version()},
        overwrite=args.overwrite,
    )
    with folder.opened():
        tracks = export_scenes(series, folder, masks=args.masks, quiet=args.quiet)
        folder.commit()
    print(f"{args.out}: {count} clips; {ANNOTATIONS} lists {tracks} tracks")
    if args.split == "test-v2":
        print("frames, masks and depth have the digests of test_v2.json")


def _scenes(args: Namespace, count: int, size: dict[str, int]) -> ExportedSeries:
    from amodal_diffusion.synthetic.splits import SceneSeries

    if args.cutouts is not None:
        raise InputError(f"--cutouts: expected none for --split {args.split}, got {args.cutouts}; leave it out")
    return SceneSeries(args.split, length=count, seed=args.seed, **size)


def _composites(args: Namespace, count: int, size: dict[str, int]) -> ExportedSeries:
    from amodal_diffusion.data.composites import open_composites
    from amodal_diffusion.data.scene_export import CompositeSeries

    shape = (size["frames"], size["height"], size["width"])
    clips = open_composites(args.split, args.cutouts, length=count, size=shape, seed=args.seed)
    return CompositeSeries(clips, size["frames"])
