"""`amodal-diffusion evaluate`: score methods on a benchmark; numbers, plots, and a page that a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import PositiveInt

from amodal_diffusion.commands._sampling import add_sampling_options
from amodal_diffusion.completion.request import package_version

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from amodal_diffusion.config import CommandParser

SUMMARY = "score methods on a benchmark and compare them"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's options.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument(
        "--benchmark", default="scenes",
        help="scenes (generated), sailvos, tao-amodal, movi, fishbowl, coco-amodal, or folder (own clips)",
    )  # fmt: skip
    parser.add_argument("--data", type=Path | None, default=None, help="the benchmark's file or folder; not for scenes")
    parser.add_argument("--images", type=Path | None, default=None, help="root of the frames, if not beside the data")
    parser.add_argument("--depth", type=Path | None, default=None, help="root of depth pictures, nearer is larger")
    parser.add_argument(
        "--depth-model", metavar="NAME", type=str | None, default=None,
        help="Depth Anything folder or hub id: estimates the depth of tracks that have none",
    )  # fmt: skip
    parser.add_argument(
        "--index-folder", metavar="DIR", type=Path | None, default=None,
        help="where the index of an annotation file is kept, if not beside it",
    )  # fmt: skip
    parser.add_argument("--split", type=str | None, default=None, help="of scenes: test-v1, validation or train")
    parser.add_argument(
        "--methods",
        default="modal,hull,hull-nearer,tiny,tiny@depth",
        help="baselines (modal, hull, temporal, temporal-hull, and with -nearer all but the first) and models, "
        "separated by commas; MODEL@depth is given the depth",
    )
    parser.add_argument(
        "--top-k", metavar="K", type=PositiveInt, default=1,
        help="predictions of each model: their mean, the best of them, and how well they are calibrated",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--limit", metavar="N", type=PositiveInt | None, default=None, help="score the first N tracks only"
    )
    parser.add_argument(
        "--stages", choices=["masks", "all"], default="masks", help="all: score painted content as well"
    )
    parser.add_argument(
        "--lpips", metavar="FILE", type=Path | None, default=None,
        help="safetensors of AlexNet's and LPIPS's weights: score painted content by LPIPS as well",
    )  # fmt: skip
    parser.add_argument(
        "--video-features", metavar="FOLDER", type=Path | None, default=None,
        help="VideoMAE model: score painted content by a Frechet video distance as well",
    )  # fmt: skip
    parser.add_argument(
        "--on-bad-track", choices=["stop", "skip"], default="stop",
        help="what to do with a track that cannot be read or completed; skip leaves it out of every mean and says so",
    )  # fmt: skip
    parser.add_argument(
        "--export", metavar="FORMAT,...", default="",
        help="write the predicted masks as well: coco, youtube-vis, davis",
    )  # fmt: skip
    parser.add_argument(
        "--conditioning", choices=["corrected", "released"], default="corrected",
        help="released: repeat the reference's inference, for the paper's numbers from the published checkpoints",
    )  # fmt: skip
    add_sampling_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16, bfloat16")
    parser.add_argument(
        "--threads", metavar="N", type=PositiveInt, default=1, help="of a process; results may depend on it"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in DIR")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: Namespace) -> int:
    """Evaluate and print; the processes of a launch share the tracks.

    Args:
        args: what :func:`add_arguments` declares.

    Returns:
        exit status.

    Raises:
        InputError: in a process on its own, as :func:`~amodal_diffusion.evaluation.evaluate.evaluate`; in a launch,
            the main process prints the error.
    """
    from amodal_diffusion.completion.libraries import quieten_libraries

    quieten_libraries(quiet=args.quiet)

    from amodal_diffusion.evaluation.evaluate import describe_findings, evaluate
    from amodal_diffusion.evaluation.processes import Processes
    from amodal_diffusion.evaluation.settings import EvaluationSettings

    settings = EvaluationSettings(**vars(args))
    processes = Processes()

    def work() -> None:
        findings = evaluate(settings, processes, version=package_version())
        if processes.is_main:
            print(describe_findings(findings, settings, processes=processes.count))

    return processes.run(work)
