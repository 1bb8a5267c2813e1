"""`amodal-diffusion validate`: all that is wrong with a data set, and how much of its objects is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from amodal_diffusion.config import CommandParser

if TYPE_CHECKING:
    from amodal_diffusion.data.validate import DatasetReport

SUMMARY = "list all that is wrong with a data set, and how much of its objects is hidden"
ANNOTATIONS = "annotations.json"
WRONG = 1
BAR = 40  # characters of the histogram's longest bar


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
    """Read everything once, print what is wrong as it is found, and a summary.

    Args:
        args: as parsed.

    Returns:
        exit status: 0, or 1 if anything is wrong.

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
    _print(check.report)
    return WRONG if check.report.problems else 0


def _print(report: DatasetReport) -> None:
    print(
        f"{report.tracks} tracks, {report.frames} frames of objects ({report.hidden_frames} fully hidden), "
        f"{report.files} files, {report.complete} tracks of which more than 95 % is visible"
    )
    print("hidden share of the object, mean over the frames that it is in:")
    most = max(1, *report.histogram)
    bins = len(report.histogram)
    for place, number in enumerate(report.histogram):
        print(
            f"  {place / bins:.1f} to {(place + 1) / bins:.1f} {number:7d} {'#' * round(BAR * number / most)}".rstrip()
        )
    if report.problems:
        counts = ", ".join(f"{kind} {number}" for kind, number in report.problems.most_common())
        print(f"wrong: {sum(report.problems.values())} ({counts})")
    else:
        print("nothing is wrong")
