"""`amodal-diffusion validate`: all that is wrong with a data set, and how much of its objects is hidden."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from amodal_diffusion.config import CommandParser

SUMMARY = "list all that is wrong with a data set, and how much of its objects is hidden"
ANNOTATIONS = "annotations.json"
WRONG = 1


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument(
        "dataset", metavar="DATASET", type=Path, help=f"annotation file, or a folder that holds {ANNOTATIONS}"
    )
    parser.add_argument(
        "--images", type=Path | None, default=None, help="root of the frames (default: the annotation file's folder)"
    )
    parser.add_argument("--skip-images", action="store_true", help="look at the annotation file alone")
    parser.add_argument("--workers", type=PositiveInt, default=4, help="threads that read frames")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: Namespace) -> int:
    """Read everything once, print each problem when it is found, then a summary.

    Args:
        args: options of :func:`add_arguments`.

    Returns:
        exit status: 0, or 1 if there is a problem.

    Raises:
        InputError: if there is no such data set.
    """
    from tqdm import tqdm

    from amodal_diffusion.data.validate import DatasetCheck
    from amodal_diffusion.types import InputError

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
