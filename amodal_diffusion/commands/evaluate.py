"""`amodal-diffusion evaluate`: score methods on a benchmark, print the table, write results.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import PositiveInt

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from amodal_diffusion.config import CommandParser
    from amodal_diffusion.evaluation.content import ContentScorer

SUMMARY = "score methods on a benchmark and compare them"
RESULTS = "results.json"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--benchmark", choices=["scenes"], default="scenes", help="what to score on")
    parser.add_argument(
        "--split", choices=["test-v1", "validation", "train"], default="test-v1", help="part of the benchmark"
    )
    parser.add_argument(
        "--methods",
        default="modal,hull,hull-nearer,tiny,tiny@depth",
        help="baselines (modal, hull, temporal, temporal-hull, and with -nearer all but the first) and models, "
        "separated by commas; MODEL@depth is given the depth",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json")
    parser.add_argument(
        "--limit", metavar="N", type=PositiveInt | None, default=None, help="score the first N clips only"
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
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: Namespace) -> None:
    """Score, print and write.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an option is wrong, a model cannot be loaded, or the folder is not empty.
    """
    from tqdm import tqdm

    from amodal_diffusion.commands._libraries import quieten_libraries

    quieten_libraries(quiet=args.quiet)

    from amodal_diffusion.evaluation.bars import judge
    from amodal_diffusion.evaluation.methods import build_methods
    from amodal_diffusion.evaluation.report import format_table, format_verdicts, write_results
    from amodal_diffusion.evaluation.scenes import CLIPS, ScenesBenchmark
    from amodal_diffusion.evaluation.scoring import score_methods
    from amodal_diffusion.video.outdir import OutputFolder

    names = [name.strip() for name in args.methods.split(",")]
    benchmark = ScenesBenchmark(args.split, args.limit or CLIPS)
    settings = {"benchmark": benchmark.name, "clips": len(benchmark), "methods": names, "stages": args.stages}
    folder = OutputFolder(args.out, inputs={}, settings=settings, overwrite=args.overwrite)
    methods = build_methods(names, device=args.device)
    content = _content(args)
    tracks = tqdm(
        (benchmark.track(index) for index in range(len(benchmark))),
        total=len(benchmark),
        desc=benchmark.name,
        unit="clip",
        disable=args.quiet,
    )
    scores = score_methods(tracks, methods, content=content)
    verdicts = judge(scores)
    with folder.opened() as out:
        with out.step("results", [RESULTS]) as work:
            write_results(work / RESULTS, scores, benchmark=benchmark.name, verdicts=verdicts)
        out.commit()
    print(f"{benchmark.name}, {len(benchmark)} clip(s); strict protocol unless named; ± standard error over clips\n")
    print(format_table(scores))
    if content is not None:
        print("\nPainting is scored with the true masks given; baselines fill with the mean visible colour.")
    if verdicts:
        print(f"\n{format_verdicts(verdicts)}")
    print(f"\n{args.out / RESULTS}")


def _content(args: Namespace) -> ContentScorer | None:
    """What scores painted content, if it is asked for."""
    from amodal_diffusion.evaluation.content import ContentScorer
    from amodal_diffusion.types import InputError

    if args.stages != "all":
        if args.lpips or args.video_features:
            raise InputError("lpips, video-features: are for painted content; add --stages all")
        return None
    from amodal_diffusion.models.perceptual import Lpips, VideoFeatures

    return ContentScorer(
        lpips=None if args.lpips is None else Lpips.from_file(args.lpips),
        features=None if args.video_features is None else VideoFeatures(args.video_features),
    )
