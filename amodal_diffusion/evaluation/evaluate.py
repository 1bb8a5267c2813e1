"""Evaluates methods on a benchmark: open it, load the methods, share the tracks among processes, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from tqdm import tqdm

from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.evaluation.benchmarks.base import Benchmark, ReferenceProtocol, WithEstimatedDepth
from amodal_diffusion.evaluation.benchmarks.registry import PROTOCOLS, open_benchmark
from amodal_diffusion.evaluation.exports import read_formats
from amodal_diffusion.evaluation.methods import Method, ModelOptions, build_methods, find_models
from amodal_diffusion.evaluation.processes import Processes
from amodal_diffusion.evaluation.report.tables import format_tables, format_verdicts, scored
from amodal_diffusion.evaluation.runner import PAGE, Findings, Provenance, Run, Scorer
from amodal_diffusion.evaluation.scores import ContentScorer
from amodal_diffusion.evaluation.settings import EvaluationSettings
from amodal_diffusion.io.result_folder import InputRecord, OutputFolder
from amodal_diffusion.models.depth import DepthEstimator
from amodal_diffusion.models.hub import say_depth_license
from amodal_diffusion.models.perceptual import Lpips, VideoFeatures


def evaluate(settings: EvaluationSettings, processes: Processes, *, version: str) -> Findings:
    """Score the methods on the benchmark and write the results; every process of a launch calls this.

    The same settings go on from the tracks that an earlier, interrupted call has kept.

    Args:
        settings: what to evaluate and where the results go.
        processes: the processes that share the tracks.
        version: version of the package, one of the settings that results depend on.

    Raises:
        InputError: in every process, if an option is wrong, a model cannot be loaded, a track cannot be scored, or
            the folder holds something else.
    """
    torch.set_num_threads(settings.threads)
    device = processes.device if settings.device == "auto" else settings.device

    # 1. Everything that can be wrong with the options fails here, in all processes, with nothing written.
    formats = processes.together(lambda: read_formats(settings.export))
    benchmark = _open_benchmark(settings, processes, device=device)
    content = processes.together(lambda: _content_scorer(settings))
    stages = STAGES if settings.stages == "all" else STAGES[:1]
    protocol = PROTOCOLS.get(settings.benchmark, ReferenceProtocol())
    how = ModelOptions(
        device, settings.dtype, settings.vae, settings.preset, settings.changes, protocol, stages, settings.yes
    )
    if processes.count > 1:
        processes.main_alone(lambda: find_models(settings.method_names, how))  # one process asks and downloads
    methods = processes.together(lambda: build_methods(settings.method_names, how))

    # 2. The folder belongs to these inputs and settings; another command's work in it is refused.
    record = _record(settings, benchmark, methods, version)
    inputs = processes.main_alone(lambda: _inputs(settings, benchmark))
    folder = processes.together(
        lambda: OutputFolder(settings.out, inputs=inputs, settings=record, overwrite=settings.overwrite)
    )

    # 3. Each process scores its share of the tracks; the main process, which holds the folder, writes the report.
    scorer = Scorer(methods, top_k=settings.top_k, content=content, process=processes.index)
    run = Run(benchmark, scorer, folder.work, settings.on_bad_track)
    provenance = Provenance(record, settings.command, formats, processes.count, device)
    with ExitStack() as stack:

        def begin() -> list[int]:
            stack.enter_context(folder.opened())
            return run.begin(folder)

        share = processes.share(processes.main_alone(begin))
        progress = tqdm(
            share,
            desc=benchmark.name if processes.count == 1 else f"{benchmark.name}, 1 of {processes.count}",
            unit="track",
            disable=settings.quiet or not processes.is_main,
        )
        processes.together(lambda: run.score(progress))
        return processes.main_alone(lambda: run.finish(provenance, folder))


def describe_findings(findings: Findings, settings: EvaluationSettings, *, processes: int) -> str:
    """Lay out the tables, the thresholds and where the results are, for the terminal.

    Args:
        findings: the figures.
        settings: the evaluation's settings.
        processes: number of processes that shared the tracks.
    """
    summary = findings.summary
    parts = [f"{summary['benchmark']}: {scored(summary)}; ± standard error over tracks", format_tables(summary)]
    if summary["thresholds"]:
        parts.append(format_verdicts(summary["thresholds"]))
    seconds = ", ".join(f"{name} {value:.2f}" for name, value in findings.seconds.items())
    parts.append(f"seconds a prediction: {seconds}; {processes} process(es), {settings.threads} thread(s) each")
    parts.append(f"report:  {settings.out / PAGE}\nresults: {settings.out}")
    return "\n\n".join(parts)


def _open_benchmark(settings: EvaluationSettings, processes: Processes, *, device: str) -> Benchmark:
    """Open the benchmark in the main process first, which makes the index of a large file for all."""

    def opened() -> Benchmark:
        benchmark = open_benchmark(
            settings.benchmark,
            data=settings.data,
            images=settings.images,
            depth=settings.depth,
            index_folder=settings.index_folder,
            track_ids=settings.track_ids,
            split=settings.split,
            limit=settings.limit,
        )
        if settings.depth_model is None:
            return benchmark
        if processes.is_main:
            say_depth_license(settings.depth_model)
        estimator = DepthEstimator.from_pretrained(settings.depth_model, device=device, yes=settings.yes)
        return WithEstimatedDepth(benchmark, estimator)

    first = processes.together(lambda: opened() if processes.is_main else None)
    return processes.together(lambda: opened() if first is None else first)


def _content_scorer(settings: EvaluationSettings) -> ContentScorer | None:
    """The scorer of painted content; None if masks alone are scored."""
    if settings.stages != "all":
        if settings.lpips or settings.video_features:
            raise InputError("lpips, video-features: are for painted content; add --stages all")
        return None
    return ContentScorer(
        lpips=None if settings.lpips is None else Lpips.from_file(settings.lpips),
        features=None if settings.video_features is None else VideoFeatures(settings.video_features),
    )


def _record(
    settings: EvaluationSettings, benchmark: Benchmark, methods: Sequence[Method], version: str
) -> dict[str, Any]:
    """Everything that results depend on except the content of files, as JSON values."""
    models = {method.name: method.describe(paints=settings.stages == "all") for method in methods if method.learned}
    return {
        "version": version,
        "benchmark": benchmark.name,
        "tracks": len(benchmark),
        "methods": settings.method_names,
        "models": models,
        "top_k": settings.top_k,
        "stages": settings.stages,
        "threads": settings.threads,
        "device": settings.device,
        "dtype": settings.dtype,
        "vae": settings.vae,
        "preset": settings.preset,
        **settings.changes,
        "depth_model": settings.depth_model,
        "export": settings.export,
    }


def _inputs(settings: EvaluationSettings, benchmark: Benchmark) -> dict[str, InputRecord]:
    """The files and folders that results depend on, by argument."""
    networks = {"lpips": settings.lpips, "video_features": settings.video_features}
    given = {**benchmark.inputs, **{name: path for name, path in networks.items() if path is not None}}
    return {name: InputRecord.of(path) for name, path in given.items()}
