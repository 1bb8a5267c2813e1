"""`amodal-diffusion score`: score prediction files of this or another program against annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amodal_diffusion.completion.request import package_version

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from amodal_diffusion.config import CommandParser

SUMMARY = "score prediction files of this or another program"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument(
        "predictions",
        metavar="PREDICTIONS",
        nargs="+",
        type=Path,
        help='JSON: masks or boxes by "(image_id, obj_id)" as published, or a result list of COCO or YouTube-VIS; '
        "several files are samples of one method",
    )
    parser.add_argument(
        "--annotations", type=Path, required=True, help="JSON list of tracks, of SAIL-VOS's layout or of TAO-Amodal's"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for summary.json, tracks.jsonl and exports")
    parser.add_argument(
        "--export", metavar="FORMAT,...", type=str, default="",
        help="write the first file's masks as well, modal masks added: coco, youtube-vis, davis",
    )  # fmt: skip
    parser.add_argument(
        "--track-ids", metavar="JSON", type=Path | None, default=None,
        help="TAO-Amodal: first track of each video, where predictions number the tracks of a video from 1",
    )  # fmt: skip
    parser.add_argument(
        "--skip-missing", action="store_true", help="leave out tracks without a prediction, and say which"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in OUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: Namespace) -> None:
    """Score, write and print.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: as :func:`~amodal_diffusion.evaluation.rescoring.score_predictions`.
    """
    from amodal_diffusion.evaluation.rescoring import SUMMARY as FILE
    from amodal_diffusion.evaluation.rescoring import describe_scores, score_predictions
    from amodal_diffusion.evaluation.settings import ScoreSettings

    settings = ScoreSettings(**vars(args))
    print(describe_scores(score_predictions(settings, version=package_version())))
    print(f"\n{settings.out / FILE}")
