"""`amodal-diffusion validate`: list the errors of a data set and the occluded share of its objects."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from amodal_diffusion.parsing import CommandParser

SUMMARY = "list the errors of a data set, and summarize how much of its objects is occluded"
ANNOTATIONS = "annotations.json"
WRONG = 1


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    parser.add_argument("dataset", metavar="DATASET", type=Path, help=f"annotation file, or folder with {ANNOTATIONS}")
    parser.add_argument(
        "--images", type=Path | None, default=None, help="root of the frames (default: the annotation file's folder)"
    )
    parser.add_argument("--skip-images", action="store_true", help="check only the annotation file, not the frames")
    parser.add_argument("--workers", type=PositiveInt, default=4, help="number of threads that read frames")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress bar")


def run(args: Namespace) -> int:
    """Read the data set once, print each problem as it is found, then print a summary.

    Args:
        args: options of :func:`add_arguments`.

    Returns:
        exit status: 0, or 1 if there is a problem.

    Raises:
        InputError: if the data set or its image folder does not exist.
    """
    from tqdm import tqdm

    from amodal_diffusion.basics import InputError
    from amodal_diffusion.data.validate import DatasetCheck

    annotations = args.dataset / ANNOTATIONS if args.dataset.is_dir() else args.dataset
    images = annotations.parent if args.images is None else args.images
    if not images.is_dir():
        raise InputError(f"images: expected the folder that the frames' paths start from, got {images}")
    with tqdm(desc="tracks", unit="track", disable=args.quiet) as bar:
        check = DatasetCheck(
            annotations, None if args.skip_images else images, workers=args.workers, on_track=bar.update
        )
        for problem in check:
            bar.write(f"{problem.kind}: {problem.text}")
    print(check.report.summary())
    return WRONG if check.report.problems else 0
