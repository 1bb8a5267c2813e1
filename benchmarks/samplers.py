"""Which scheduler, how many steps, which guidance, noise and sigmas: stage 1 on validation scenes, as Markdown rows.

Every row is the checkpoint's default settings with what the row names in their place, on the same scenes, seeds and
initial noise, printed when all scenes are done. `passes` are calls of the network a window, one for each row of
guidance; `IoU with paper` compares masks with those of the paper's way (25 Euler steps, guidance 1.5), pooled over the
frames of a clip, mean over clips; `s` is the processor time of a scene beside what all rows share: motion estimation
and encoding the conditions, which is done once a scene and process.
"""

import argparse
import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from time import process_time
from typing import Any

import numpy as np
import torch
from _once import Once

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.evaluation.benchmarks.scenes import scene_track
from amodal_diffusion.metrics import TrackScores, score_track, summarise
from amodal_diffusion.models.checkpoint import PRESETS
from amodal_diffusion.models.schedulers import make_scheduler, set_noise_levels
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import CompletionConfig
from amodal_diffusion.types import BoolArray

SPLIT = "validation"
PAPER = "paper"
PLAIN: dict[str, Any] = {"guidance_scale": 1.0, "guidance_interval": None, "tta": 1}
ONCE = Once(encoding=True)
scene_of = cache(scene_track)


@dataclass(frozen=True)
class Row:
    """One way to sample.

    Attributes:
        name: in the table.
        sampling: how.
    """

    name: str
    sampling: SamplingConfig


@dataclass(frozen=True)
class Task:
    """One way on one scene.

    Attributes:
        model: a bundled name, a folder, or a hub id.
        row: the way.
        seed: of the scene.
        depth: whether it is given.
    """

    model: str
    row: Row
    seed: int
    depth: bool


@dataclass(frozen=True)
class Found:
    """What a way found on one scene.

    Attributes:
        scores: strict protocol.
        mask: bool ``[F, H, W]``.
        seconds: of a processor, beside what all rows share.
        shared: of a processor, for what this row made and the next ones find.
    """

    scores: TrackScores
    mask: BoolArray
    seconds: float
    shared: float


def main() -> None:
    """Score all rows on all scenes and print a table for each way of giving depth."""
    args = _arguments()
    pipeline = _pipeline(args.model)
    rows = list(_rows(args, pipeline))
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        for depth in args.depth:
            print(f"\n{args.model}, {args.scenes} scenes of split {SPLIT}, depth {depth}\n")
            print("| way | passes | mIoU_occ | mIoU | IoU with paper | s |\n| --- | --- | --- | --- | --- | --- |")
            paper: list[BoolArray] = []
            shared = 0.0
            for row in rows:
                tasks = [Task(args.model, row, seed, depth == "given") for seed in range(args.scenes)]
                found = list(pool.map(_score, tasks))
                paper = paper or [entry.mask for entry in found]
                shared += sum(entry.shared for entry in found)
                print(_line(row, found, paper, _passes(row.sampling, pipeline)), flush=True)
            print(
                f"\nmotion estimation and encoding, all rows together: {shared / args.scenes:.2f} s a scene", flush=True
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--scenes", type=int, default=48, help="the first N of the validation split")
    parser.add_argument("--depth", nargs="+", choices=["given", "none"], default=["none", "given"])
    tables = ["presets", "schedulers", "guidance", "noise", "sigmas", "tta"]
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    parser.add_argument("--schedulers", nargs="+", default=["euler", "heun", "dpmpp"])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 3, 4, 6, 8, 12, 25], help="of table schedulers")
    parser.add_argument("--guidance", nargs="+", type=float, default=[1.5, 2.0])
    pairs = [1.0, 100.0, 10.0, 1000.0]
    parser.add_argument("--intervals", nargs="+", type=float, default=pairs, help="pairs, beside all steps")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--sigma-max", nargs="+", type=float, default=[10.0, 20.0, 80.0, 200.0, 700.0])
    parser.add_argument("--sigma-min", nargs="+", type=float, default=[0.002, 0.02, 0.2])
    parser.add_argument("--few-steps", nargs="+", type=int, default=[1, 4], help="of all tables but schedulers")
    parser.add_argument("--scheduler", default="dpmpp", help="of all tables but schedulers")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    if args.scenes < 1 or args.processes < 1 or len(args.intervals) % 2:
        parser.error("--scenes and --processes are at least 1, --intervals come in pairs")
    return args


def _rows(args: argparse.Namespace, pipeline: AmodalSegmentationPipeline) -> Iterator[Row]:
    """The paper's way first, then those of the tables, each once."""
    settings, seen = pipeline.settings, set()
    for name, changes in itertools.chain([(PAPER, {})], _changes(args)):
        sampling = settings.preset(name) if name in PRESETS else settings.sampling.changed(changes)
        if name not in seen:
            seen.add(name)
            yield Row(name, sampling)


def _changes(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of rows with what they change; presets, which change what they say, with nothing."""
    if "presets" in args.tables:
        yield from ((name, {}) for name in PRESETS)
    if "schedulers" in args.tables:
        for scheduler, steps in itertools.product(args.schedulers, args.steps):
            yield f"{scheduler} {steps}", {**PLAIN, "scheduler": scheduler, "num_inference_steps": steps}
    for steps in args.few_steps:
        base = {**PLAIN, "scheduler": args.scheduler, "num_inference_steps": steps}
        for table, variants in _variants(args, steps).items():
            if table in args.tables:
                yield from ((f"{args.scheduler} {steps}, {what}", {**base, **changes}) for what, changes in variants)


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
        "tta": [(f"tta {passes}", {"tta": passes}) for passes in (1, 2, 4)],
    }


def _pipeline(model: str) -> AmodalSegmentationPipeline:
    pipeline = AmodalSegmentationPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def _own_pipeline(model: str) -> AmodalSegmentationPipeline:
    """The pipeline of a process that scores, with one thread."""
    torch.set_num_threads(1)
    return _pipeline(model)


def _score(task: Task) -> Found:
    """Complete one scene one way."""
    pipeline, track = _own_pipeline(task.model), scene_of(task.seed, SPLIT)
    config = CompletionConfig(task.row.sampling, None)
    started, before = process_time(), ONCE.seconds
    with ONCE.shared():
        depth = track.depth if task.depth else None
        completer = AmodalCompleter(pipeline, None)
        mask = completer(track.clip, config, depth=depth, seed=task.seed).amodal_mask
    shared = ONCE.seconds - before
    scores = score_track(mask, track.clip.modal_mask, track.amodal_mask)
    return Found(scores, mask, process_time() - started - shared, shared)


def _pooled_iou(mask: BoolArray, other: BoolArray) -> float:
    """IoU of the pixels of all frames; 1 where both are empty."""
    union = int((mask | other).sum())
    return int((mask & other).sum()) / union if union else 1.0


def _passes(sampling: SamplingConfig, pipeline: AmodalSegmentationPipeline) -> int:
    """Rows that the network computes for a window."""
    scheduler = make_scheduler(
        pipeline.scheduler, scheduler=sampling.scheduler, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max
    )
    set_noise_levels(scheduler, sampling.num_inference_steps, device=torch.device("cpu"))
    low, high = sampling.guidance_interval or (0.0, np.inf)
    guided = sum(low <= sigma <= high for sigma in scheduler.sigmas[:-1].tolist())
    return sampling.beyond.tta * (sampling.network_passes + guided * (sampling.guidance_scale > 1.0))


def _line(row: Row, found: list[Found], paper: list[BoolArray], passes: int) -> str:
    total = summarise([entry.scores for entry in found])
    agreement = [_pooled_iou(entry.mask, mask) for entry, mask in zip(found, paper, strict=True)]
    seconds = np.mean([entry.seconds for entry in found])
    return (
        f"| {row.name} | {passes} | {total.miou_occ.value:.3f} ± {total.miou_occ.standard_error:.3f} "
        f"| {total.miou.value:.3f} | {np.mean(agreement):.3f} | {seconds:.2f} |"
    )


if __name__ == "__main__":
    main()
