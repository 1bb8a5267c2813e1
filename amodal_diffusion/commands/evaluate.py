"""`amodal-diffusion evaluate`: score methods on a benchmark; numbers, plots, and a page that a person reads."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from amodal_diffusion.commands._sampling import add_sampling_options
from amodal_diffusion.completion.request import PACKAGE, package_version

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from amodal_diffusion.config import CommandParser
    from amodal_diffusion.evaluation.benchmarks.base import Benchmark
    from amodal_diffusion.evaluation.finishing import Account, Findings
    from amodal_diffusion.evaluation.methods import Method
    from amodal_diffusion.evaluation.processes import Processes
    from amodal_diffusion.evaluation.runner import Run
    from amodal_diffusion.evaluation.scores import ContentScorer
    from amodal_diffusion.io.result_folder import InputRecord, OutputFolder

SUMMARY = "score methods on a benchmark and compare them"
FAILED = 2
_NOT_REPEATED = ("out", "overwrite", "quiet")  # options that say nothing of what is measured


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
    """Score, print and write; in each process of a launch, which share the tracks.

    Args:
        args: what :func:`add_arguments` declares.

    Returns:
        exit status.

    Raises:
        InputError: in a process on its own, if an option is wrong, a model cannot be loaded, a track cannot be
            scored, or the folder is not empty; in a launch, the main process says it for all.
    """
    from amodal_diffusion.completion.libraries import quieten_libraries

    quieten_libraries(quiet=args.quiet)

    from amodal_diffusion.evaluation.processes import Processes
    from amodal_diffusion.types import InputError

    processes = Processes()
    try:
        _evaluate(args, processes)
    except InputError as error:
        if processes.count == 1:
            raise
        if processes.is_main:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        processes.end()
        return FAILED
    processes.end()
    return 0


def _evaluate(args: Namespace, processes: Processes) -> None:
    """Build what is asked for and run it."""
    import torch

    from amodal_diffusion.evaluation.exports import read_formats
    from amodal_diffusion.evaluation.finishing import Account
    from amodal_diffusion.evaluation.methods import ModelOptions, build_methods
    from amodal_diffusion.evaluation.runner import Run, Scorer
    from amodal_diffusion.io.result_folder import OutputFolder

    torch.set_num_threads(args.threads)
    device = processes.device if args.device == "auto" else args.device
    formats = processes.together(lambda: read_formats(args.export))
    benchmark = _open_benchmark(args, processes, device=device)
    content = processes.together(lambda: _content(args))
    how = ModelOptions(
        device, args.dtype, args.conditioning,
        preset=args.preset, steps=args.steps, guidance=args.guidance, solver=args.solver,
    )  # fmt: skip
    methods = processes.together(lambda: build_methods(_names(args), how))
    settings = _settings(args, benchmark, methods)
    inputs = processes.main_alone(lambda: _inputs(args, benchmark))
    folder = processes.together(
        lambda: OutputFolder(args.out, inputs=inputs, settings=settings, overwrite=args.overwrite)
    )
    scorer = Scorer(methods, top_k=args.top_k, content=content, process=processes.index)
    account = Account(settings, _command(args), formats, processes.count, device)
    findings = _score(Run(benchmark, scorer, folder.work, args.on_bad_track), account, folder, args, processes)
    if processes.is_main:
        _print(findings, args, processes)


def _score(job: Run, account: Account, folder: OutputFolder, args: Namespace, processes: Processes) -> Findings:
    """Share out the tracks that are not done, then gather all in the main process, which alone holds the folder."""
    from tqdm import tqdm

    from amodal_diffusion.evaluation.finishing import finish

    with ExitStack() as stack:

        def begin() -> list[int]:
            stack.enter_context(folder.opened())
            return job.begin(folder)

        missing = processes.main_alone(begin)
        bar = tqdm(
            processes.share(missing),
            desc=job.benchmark.name if processes.count == 1 else f"{job.benchmark.name}, 1 of {processes.count}",
            unit="track",
            disable=args.quiet or not processes.is_main,
        )
        processes.together(lambda: job.score(bar))
        return processes.main_alone(lambda: finish(job, account, folder))


def _open_benchmark(args: Namespace, processes: Processes, *, device: str) -> Benchmark:
    """Open it in the main process first, which makes the index of a large file for all."""
    from amodal_diffusion.evaluation.benchmarks.registry import open_benchmark

    def opened() -> Benchmark:
        benchmark = open_benchmark(
            args.benchmark,
            data=args.data,
            images=args.images,
            depth=args.depth,
            index_folder=args.index_folder,
            split=args.split,
            limit=args.limit,
        )
        if args.depth_model is None:
            return benchmark
        from amodal_diffusion.evaluation.benchmarks.base import WithEstimatedDepth
        from amodal_diffusion.models.depth import DepthEstimator

        return WithEstimatedDepth(benchmark, DepthEstimator.from_pretrained(args.depth_model, device=device))

    first = processes.together(lambda: opened() if processes.is_main else None)
    return processes.together(lambda: opened() if first is None else first)


def _names(args: Namespace) -> list[str]:
    return [name.strip() for name in args.methods.split(",") if name.strip()]


def _settings(args: Namespace, benchmark: Benchmark, methods: list[Method]) -> dict[str, Any]:
    """All that results depend on but the content of files, as JSON values."""
    return {
        "version": package_version(),
        "benchmark": benchmark.name,
        "tracks": len(benchmark),
        "methods": _names(args),
        "models": {method.name: method.describe(paints=args.stages == "all") for method in methods if method.learned},
        "top_k": args.top_k,
        "stages": args.stages,
        "threads": args.threads,
        "device": args.device,
        "dtype": args.dtype,
        "conditioning": args.conditioning,
        "preset": args.preset,
        "steps": args.steps,
        "guidance": args.guidance,
        "solver": args.solver,
        "depth_model": args.depth_model,
        "export": args.export,
    }


def _inputs(args: Namespace, benchmark: Benchmark) -> dict[str, InputRecord]:
    from amodal_diffusion.io.result_folder import InputRecord

    networks = {"lpips": args.lpips, "video_features": args.video_features}
    given = {**benchmark.inputs, **{name: path for name, path in networks.items() if path is not None}}
    return {name: InputRecord.of(path) for name, path in given.items()}


def _command(args: Namespace) -> str:
    """The command that repeats the run in a folder of its own."""
    words = [PACKAGE, "evaluate"]
    for name, value in vars(args).items():
        if name not in _NOT_REPEATED and value not in (None, ""):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--out", "DIR"])


def _content(args: Namespace) -> ContentScorer | None:
    """What scores painted content, if it is asked for."""
    from amodal_diffusion.evaluation.scores import ContentScorer
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


def _print(findings: Findings, args: Namespace, processes: Processes) -> None:
    """Say what was found and where it is."""
    from amodal_diffusion.evaluation.finishing import PAGE
    from amodal_diffusion.evaluation.report.tables import format_tables, format_verdicts, scored

    summary = findings.summary
    print(f"{summary['benchmark']}: {scored(summary)}; ± standard error over tracks\n\n{format_tables(summary)}\n")
    if summary["bars"]:
        print(f"{format_verdicts(summary['bars'])}\n")
    seconds = ", ".join(f"{name} {value:.2f}" for name, value in findings.seconds.items())
    print(f"seconds a prediction: {seconds}; {processes.count} process(es), {args.threads} thread(s) each")
    print(f"\nreport:  {args.out / PAGE}\nresults: {args.out}")
