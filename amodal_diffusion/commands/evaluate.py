"""`amodal-diffusion evaluate`: score methods on a benchmark, print the table, write results.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amodal_diffusion.types import InputError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from amodal_diffusion.config import CommandParser

SUMMARY = "score methods on a benchmark and compare them"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--benchmark", choices=["scenes"], default="scenes", help="what to score on")
    parser.add_argument(
        "--split", choices=["test-v1", "validation", "train"], default="test-v1", help="part of the benchmark"
    )
    parser.add_argument(
        "--methods",
        default="modal,hull,hull-nearer,tiny,tiny@depth",
        help="baselines (modal, hull, hull-nearer) and models, separated by commas; MODEL@depth is given the depth",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json")
    parser.add_argument("--limit", type=int, help="score only the first N clips")
    parser.add_argument(
        "--stages", choices=["masks", "all"], default="masks", help="all: score painted content as well"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier results.json")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: Namespace) -> int:
    """Score, print and write.

    Raises:
        InputError: if an option is wrong or a model cannot be loaded.
    """
    results = args.out / "results.json"
    if results.exists() and not args.overwrite:
        raise InputError(f"out: {results} exists; choose another folder or pass --overwrite")
    if args.limit is not None and args.limit < 1:
        raise InputError(f"limit: expected at least 1 clip, got {args.limit}")

    from tqdm import tqdm

    from amodal_diffusion.evaluation.bars import judge
    from amodal_diffusion.evaluation.methods import build_methods
    from amodal_diffusion.evaluation.report import format_table, format_verdicts, write_results
    from amodal_diffusion.evaluation.scenes import CLIPS, ScenesBenchmark
    from amodal_diffusion.evaluation.scoring import score_methods

    methods = build_methods([name.strip() for name in args.methods.split(",")], device=args.device)
    benchmark = ScenesBenchmark(args.split, min(args.limit or CLIPS, CLIPS))
    tracks = tqdm(benchmark, desc=benchmark.name, unit="clip", disable=args.quiet)
    scores = score_methods(tracks, methods, content=args.stages == "all")

    verdicts = judge(scores)
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(results, scores, benchmark=benchmark.name, verdicts=verdicts)
    print(f"{benchmark.name}, {len(benchmark)} clips; strict protocol unless named; ± standard error over clips\n")
    print(format_table(scores))
    if args.stages == "all":
        print("\nPainting is scored with the true masks given; baselines fill with the mean visible colour.")
    if verdicts:
        print(f"\n{format_verdicts(verdicts)}")
    print(f"\n{results}")
    return 0
