"""A stage the reference's way and ours: seconds, operations, memory, and how far the results agree.

The reference (docs/method.md) takes 25 Euler steps under guidance of 1.5 as two rows of one batch, encodes conditions
frame by frame, decodes in chunks of 8 with a float32 VAE. Ours is `fast` and `default`. All go through the same code,
weights, clips and initial noise in one run, clip by clip in turn, so that whatever else the machine does slows them
alike. Memory is that of a process that goes one way only. Then both stages complete a clip of 25 frames.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Literal

import numpy as np
import torch
from _machine import GIB, Machine, measure_machine, peak_memory
from _ways import HEIGHT, WAYS, WIDTH, Attention, Tuning, Watch, WayName, Ways, scene_track

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.basics import STAGES, Stage
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.metrics import psnr
from amodal_diffusion.models.acceleration import Acceleration
from amodal_diffusion.parsing import parse_settings
from amodal_diffusion.training.networks import COMPUTE_DTYPES
from amodal_diffusion.training.run_settings import Precision
from amodal_diffusion.types import AmodalResult, BoolArray

LONG = 25
PARTS = ("denoise", "stage")
# At most this share of the reference's time: denoising alone, and the whole stage.
TARGETS: dict[WayName, tuple[float, float]] = {"fast": (0.08, 0.2), "default": (0.25, 0.4)}
EQUAL_MASKS, LONG_SECONDS = 0.98, 8.0


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        size: `tiny` for the weights of `model`; `full`, 1.5 G parameters at 256x512 with random weights; `smallest`, to
            see that the script runs.
        model: a bundled name, a folder, or a hub id, for size `tiny`.
        stages: which.
        clips: number of different ones; figures of time are medians over clips and repeats.
        repeats: of each clip.
        depth: give stage 1 the depth.
        device: torch's name of it.
        precision: of the networks; the reference's VAE stays float32.
        attention: kernel of attention.
        compile: our UNet, and so the reference's, by `torch.compile`.
        cuda_graphs: likewise, captured.
        channels_last: likewise, and our VAE.
        one_pass: decode a window of ours in one pass.
        threads: of the CPU; torch's own choice when 0.
        memory_of: measure the memory of this way alone and print it as JSON.
    """

    size: Literal["tiny", "full", "smallest"] = "tiny"
    model: str = "tiny"
    stages: tuple[Stage, ...] = STAGES
    clips: int = 3
    repeats: int = 3
    depth: bool = True
    device: str = "cpu"
    precision: Precision = "no"
    attention: Attention = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    channels_last: bool = False
    one_pass: bool = False
    threads: int = 0
    memory_of: WayName | None = None


@dataclass
class Findings:
    """Of one way.

    Attributes:
        seconds: of each run, by part.
        operations: of a run, by part.
        iou: of whole masks with the reference's, all frames of a clip, one a clip.
        hidden_iou: the same of what lies beyond the visible mask.
        psnr: of the painting with the reference's where it is hidden, one a clip, in dB.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    iou: list[float] = field(default_factory=list)
    hidden_iou: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)


def measure(settings: Settings) -> None:
    """Run all ways of each stage in turn and print their tables."""
    device = torch.device(settings.device)
    machine = measure_machine(device, COMPUTE_DTYPES[settings.precision])
    print(
        f"size {settings.size}, {settings.device}, precision {settings.precision}, attention {settings.attention}, "
        f"{torch.get_num_threads()} threads; at best {machine.operations / 1e9:.0f} GFLOP/s here; medians of "
        f"{settings.clips} clips x {settings.repeats} repeats",
        flush=True,
    )
    for stage in settings.stages:
        ways = _ways(stage, settings)
        _print_stage(stage, _measure_stage(ways, settings), machine, settings)
    if settings.size == "tiny" and set(STAGES) <= set(settings.stages):
        _measure_long(settings)


def _ways(stage: Stage, settings: Settings) -> Ways:
    dtype = COMPUTE_DTYPES[settings.precision]
    tuning = Tuning(dtype, settings.attention, settings.one_pass)
    return Ways(stage, size=settings.size, model=settings.model, device=torch.device(settings.device), tuning=tuning)


def _accelerate(ways: Ways, settings: Settings) -> None:
    ways.accelerate(Acceleration(settings.compile, settings.cuda_graphs, settings.channels_last))


def _measure_stage(ways: Ways, settings: Settings) -> dict[WayName, Findings]:
    found = {way: Findings() for way in WAYS}
    tracks = [scene_track(seed, ways.window, depth=settings.depth) for seed in range(settings.clips)]
    for way, findings in found.items():  # also the runs that are not timed
        findings.operations = ways.count(way, tracks[0])
    _accelerate(ways, settings)
    if settings.compile or settings.cuda_graphs:
        for way in WAYS:
            ways.run(way, tracks[0], Watch())
    for repeat in range(settings.repeats):
        for track in tracks:
            results = {}
            for way, findings in found.items():
                watch = Watch()
                results[way] = ways.run(way, track, watch)
                for name, seconds in watch.seconds.items():
                    findings.seconds.setdefault(name, []).append(seconds)
            if repeat == 0:
                _compare(results, found, track)
    return found


def _compare(results: dict[WayName, AmodalResult], found: dict[WayName, Findings], track: MaskTarget) -> None:
    """Hold all ways against the reference's."""
    reference, modal = results["reference"], track.clip.modal_mask
    for way, result in results.items():
        found[way].iou.append(_iou(result.amodal_mask, reference.amodal_mask))
        found[way].hidden_iou.append(_iou(result.amodal_mask & ~modal, reference.amodal_mask & ~modal))
        if result.amodal_rgb is not None and reference.amodal_rgb is not None:
            hidden = track.amodal_mask & ~modal
            found[way].psnr.append(psnr(result.amodal_rgb, reference.amodal_rgb, hidden))


def _iou(mask: BoolArray, other: BoolArray) -> float:
    """IoU of the pixels of all frames; 1 where both are empty."""
    union = int((mask | other).sum())
    return int((mask & other).sum()) / union if union else 1.0


def _print_stage(stage: Stage, found: dict[WayName, Findings], machine: Machine, settings: Settings) -> None:
    agreement = "IoU | IoU hidden" if stage == "amodal_segmentation" else "PSNR with reference, dB"
    columns = agreement.count("|") + 1
    print(f"\n{stage}\n")
    print(
        "| way | denoise, s | x | conditions, s | decode, s | stage, s | x | GFLOP, UNet | GFLOP, all | of matmul rate "
        f"| {agreement} | peak GiB |\n|" + " --- |" * (11 + columns)
    )
    for way, findings in found.items():
        of = {name: median(times) for name, times in findings.seconds.items()}
        rate = findings.operations["denoise"] / max(of["denoise"], 1e-9) / machine.operations
        agrees = [findings.iou, findings.hidden_iou] if stage == "amodal_segmentation" else [findings.psnr]
        print(
            f"| {way} | {of['denoise']:.2f} | {_ratio(found, way, 'denoise'):.3f} | {of['conditions']:.2f} "
            f"| {of['decode']:.2f} | {of['stage']:.2f} | {_ratio(found, way, 'stage'):.3f} "
            f"| {findings.operations['denoise'] / 1e9:.0f} | {findings.operations['stage'] / 1e9:.0f} | {rate:.2f} "
            f"| {' | '.join(f'{np.nanmean(values):.3f}' for values in agrees)} "
            f"| {_peak_of(way, stage, settings) / GIB:.2f} |",
            flush=True,
        )
    for way, limits in TARGETS.items() if stage == "amodal_segmentation" else ():
        for part, limit in zip(PARTS, limits, strict=True):
            ratio = _ratio(found, way, part)
            print(f"{way}, {part}: {ratio:.3f} of the reference's time, wanted {limit}: {_verdict(ratio <= limit)}")
        if settings.size != "tiny":
            continue  # masks of random weights mean nothing
        alike = float(np.mean(found[way].iou))
        print(f"{way}, masks: IoU {alike:.3f} with the reference's, wanted {EQUAL_MASKS}: "
              f"{_verdict(alike >= EQUAL_MASKS)}")  # fmt: skip


def _verdict(passed: bool) -> str:
    return "met" if passed else "NOT MET"


def _ratio(found: dict[WayName, Findings], way: WayName, part: str) -> float:
    """Median over runs of a way's time over the reference's on the same clip, taken one after the other."""
    pairs = zip(found[way].seconds[part], found["reference"].seconds[part], strict=True)
    return median(ours / theirs for ours, theirs in pairs)


def _peak_of(way: WayName, stage: Stage, settings: Settings) -> int:
    """Most memory of a process that runs a stage one way, twice."""
    given = {**asdict(settings), "memory_of": way, "stages": json.dumps([stage])}
    flags = [f"--{name}={value}" for name, value in given.items()]
    printed = subprocess.run([sys.executable, __file__, *flags], check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(json.loads(printed.splitlines()[-1])["peak"])


def _measure_memory(settings: Settings, way: WayName) -> None:
    ways = _ways(settings.stages[0], settings)
    _accelerate(ways, settings)
    track = scene_track(0, ways.window, depth=settings.depth)
    for _ in range(2):
        ways.run(way, track, Watch())
    print(json.dumps({"peak": peak_memory(ways.device)}))


def _measure_long(settings: Settings) -> None:
    """Both stages on a clip of 25 frames, as `complete` runs them."""
    completer = AmodalCompleter.from_pretrained(settings.model, device=settings.device)
    track = scene_track(0, LONG, depth=settings.depth)
    print(f"\nboth stages, {LONG} frames of {HEIGHT}x{WIDTH}:")
    for preset in ("fast", "default"):
        wall, processor = [], []
        for _ in range(settings.repeats):
            started, used = time.perf_counter(), time.process_time()
            completer.complete(track.clip, depth=track.depth, preset=preset)
            wall.append(time.perf_counter() - started)
            processor.append(time.process_time() - used)
        verdict = f", wanted {LONG_SECONDS:g}: {_verdict(median(wall) <= LONG_SECONDS)}" if preset == "default" else ""
        print(f"{preset}: {median(wall):.1f} s, {median(processor):.1f} s of a processor{verdict}", flush=True)


if __name__ == "__main__":
    chosen = parse_settings(Settings, sys.argv[1:])
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if chosen.memory_of is not None:
        _measure_memory(chosen, chosen.memory_of)
    else:
        measure(chosen)
