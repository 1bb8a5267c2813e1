"""Which solver, how many steps, which guidance, noise and sigmas: stage 1 on validation scenes, as Markdown rows.

Every row is the checkpoint's default settings with what the row names in their place, on the same scenes, seeds and
initial noise. `passes` are calls of the network a window, one for each row of guidance; `IoU with paper` compares masks
with those of the paper's way (25 Euler steps, guidance 1.5), pooled over the frames of a clip, mean over clips.
"""

import argparse
import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from time import process_time
from typing import Any

import numpy as np
import torch

from amodal_diffusion import AmodalCompleter, VideoClip
from amodal_diffusion.data.scenes import make_scene
from amodal_diffusion.metrics import TrackScores, score_track, summarise
from amodal_diffusion.models.checkpoint import VIEWS, SamplingDefaults
from amodal_diffusion.models.presets import PRESETS, apply_preset
from amodal_diffusion.models.solvers import make_scheduler, set_noise_levels
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.types import BoolArray

SPLIT, FRAMES, HEIGHT, WIDTH = "validation", 16, 64, 128
PAPER = "paper"
PLAIN: dict[str, Any] = {"guidance_scale": 1.0, "guidance_interval": None, "views": 1}


@dataclass(frozen=True)
class Row:
    """One way to sample.

    Attributes:
        name: in the table.
        sampling: how.
    """

    name: str
    sampling: SamplingDefaults


@dataclass
class Found:
    """What a way found, clip by clip.

    Attributes:
        scores: of each clip, strict protocol.
        agreement: IoU of all frames of a clip with the paper's way.
        seconds: of a processor, all clips.
    """

    scores: list[TrackScores] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    seconds: float = 0.0


def main() -> None:
    """Score all rows on all clips and print a table for each way of giving depth."""
    args = _arguments()
    rows = list(_rows(args, _pipeline(args.model)))
    tasks = [(args.model, rows, seed, depth == "given") for depth in args.depth for seed in range(args.clips)]
    totals = {depth: {row.name: Found() for row in rows} for depth in args.depth}
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        for task, found in zip(tasks, pool.map(_score_clip, *zip(*tasks, strict=True)), strict=True):
            for name, (scores, agreement, seconds) in found.items():
                total = totals["given" if task[-1] else "none"][name]
                total.scores.append(scores)
                total.agreement.append(agreement)
                total.seconds += seconds
    for depth, table in totals.items():
        _print_table(depth, table, rows, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--clips", type=int, default=48, help="the first N validation scenes")
    parser.add_argument("--depth", nargs="+", choices=["given", "none"], default=["none", "given"])
    tables = ["presets", "solvers", "guidance", "noise", "sigmas", "views"]
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    parser.add_argument("--solvers", nargs="+", default=["euler", "heun", "dpmpp"])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 3, 4, 6, 8, 12, 25], help="of table solvers")
    parser.add_argument("--guidance", nargs="+", type=float, default=[1.5, 2.0])
    pairs = [1.0, 100.0, 10.0, 1000.0]
    parser.add_argument("--intervals", nargs="+", type=float, default=pairs, help="pairs, beside all steps")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--sigma-max", nargs="+", type=float, default=[10.0, 20.0, 80.0, 200.0, 700.0])
    parser.add_argument("--sigma-min", nargs="+", type=float, default=[0.002, 0.02, 0.2])
    parser.add_argument("--few-steps", nargs="+", type=int, default=[1, 4], help="of all tables but solvers")
    parser.add_argument("--solver", default="dpmpp", help="of all tables but solvers")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    if args.clips < 1 or args.processes < 1 or len(args.intervals) % 2:
        parser.error("--clips and --processes are at least 1, --intervals come in pairs")
    return args


def _rows(args: argparse.Namespace, pipeline: AmodalSegmentationPipeline) -> Iterator[Row]:
    """The paper's way first, then those of the tables, each once."""
    own, seen = pipeline.sampling, set()
    for name, changes in itertools.chain([(PAPER, {})], _changes(args)):
        sampling = apply_preset(name, own, pipeline.presets) if name in PRESETS else replace(own, **changes)
        if name not in seen:
            seen.add(name)
            yield Row(name, sampling)


def _changes(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of rows with what they change; presets, which change what they say, with nothing."""
    if "presets" in args.tables:
        yield from ((name, {}) for name in PRESETS)
    if "solvers" in args.tables:
        for solver, steps in itertools.product(args.solvers, args.steps):
            yield f"{solver} {steps}", {**PLAIN, "solver": solver, "num_inference_steps": steps}
    for steps in args.few_steps:
        base = {**PLAIN, "solver": args.solver, "num_inference_steps": steps}
        for table, variants in _variants(args, steps).items():
            if table in args.tables:
                yield from ((f"{args.solver} {steps}, {what}", {**base, **changes}) for what, changes in variants)


def _variants(args: argparse.Namespace, steps: int) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """By table, what its rows say and change of the same solver and steps."""
    intervals = [None, *zip(args.intervals[::2], args.intervals[1::2], strict=True)]
    highest = [(f"sigma_max {high:g}", {"sigma_max": high}) for high in args.sigma_max]
    lowest = [(f"sigma_min {low:g}", {"sigma_min": low}) for low in args.sigma_min]
    return {
        "guidance": [
            (
                f"guidance {scale:g}, " + ("all steps" if pair is None else f"sigma {pair[0]:g} to {pair[1]:g}"),
                {"guidance_scale": scale, "guidance_interval": pair},
            )
            for scale, pair in itertools.product(args.guidance, intervals)
        ],
        "noise": [(f"noise {strength:g}", {"noise_aug_strength": strength}) for strength in args.noise],
        "sigmas": highest + (lowest if steps > 1 else []),  # a single step is at sigma_max
        "views": [(f"views {views}", {"views": views}) for views in VIEWS],
    }


def _pipeline(model: str) -> AmodalSegmentationPipeline:
    pipeline = AmodalSegmentationPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _score_clip(
    model: str, rows: list[Row], seed: int, with_depth: bool
) -> dict[str, tuple[TrackScores, float, float]]:
    """Scores, agreement with the first row and processor time of one clip, by row."""
    torch.set_num_threads(1)
    pipeline = _pipeline(model)
    pipeline.presets = {}
    completer = AmodalCompleter(pipeline, None)
    scene = make_scene(seed, split=SPLIT, frames=FRAMES, height=HEIGHT, width=WIDTH)
    assert scene.rgb is not None
    target = scene.target
    clip = VideoClip(scene.rgb, target.modal, scene.fps)
    found, first = {}, None
    for row in rows:
        pipeline.sampling = row.sampling
        started = process_time()
        mask = completer.complete(clip, depth=scene.depth if with_depth else None, seed=seed).amodal_mask
        seconds = process_time() - started
        first = mask if first is None else first
        found[row.name] = (score_track(mask, target.modal, target.amodal), _pooled_iou(mask, first), seconds)
    return found


def _pooled_iou(mask: BoolArray, other: BoolArray) -> float:
    """IoU of the pixels of all frames; 1 where both are empty."""
    union = int((mask | other).sum())
    return int((mask & other).sum()) / union if union else 1.0


def _passes(sampling: SamplingDefaults, pipeline: AmodalSegmentationPipeline) -> int:
    """Rows that the network computes for a window."""
    scheduler = make_scheduler(
        pipeline.scheduler, solver=sampling.solver, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max
    )
    set_noise_levels(scheduler, sampling.num_inference_steps, device=torch.device("cpu"))
    low, high = sampling.guidance_interval or (0.0, np.inf)
    guided = sum(low <= sigma <= high for sigma in scheduler.sigmas[:-1].tolist())
    return sampling.views * (sampling.network_passes + guided * (sampling.guidance_scale > 1.0))


def _print_table(depth: str, table: dict[str, Found], rows: list[Row], args: argparse.Namespace) -> None:
    pipeline = _pipeline(args.model)
    print(f"\n{args.model}, {args.clips} scenes of split {SPLIT}, {FRAMES} frames {HEIGHT}x{WIDTH}, depth {depth}\n")
    print("| way | passes | mIoU_occ | mIoU | IoU with paper | s |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        found = table[row.name]
        total = summarise(found.scores)
        hidden = total.miou_occ
        print(
            f"| {row.name} | {_passes(row.sampling, pipeline)} | {hidden.value:.3f} ± {hidden.standard_error:.3f} "
            f"| {total.miou.value:.3f} | {np.mean(found.agreement):.3f} | {found.seconds / len(found.scores):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
