"""The teacher in 1, 4 and 25 steps and the student in one, on the first validation scenes, as Markdown rows.

`mIoU_occ` and `mIoU` are of the strict protocol. `IoU with the teacher` compares masks with those of the teacher's 25
guided steps, pooled over the frames of a clip, mean over clips. `rows` are rows of the network for one window.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.baselines.masks import TemporalSegmenter
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.scenes import scene_track
from amodal_diffusion.metrics import score_track, summarise
from amodal_diffusion.parsing import parse_settings
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import CompletionConfig
from amodal_diffusion.types import BoolArray


@dataclass(frozen=True)
class CompareSettings:
    """What is compared.

    Attributes:
        teacher: model folder of the teacher.
        student: model folder of the student; None leaves it out.
        scenes: number of validation scenes, from the first.
        depth: give the true depth.
        steps: step counts of the teacher, the reference first.
    """

    teacher: Path = Path("runs/one_step_teacher/model")
    student: Path | None = None
    scenes: int = 48
    depth: bool = False
    steps: tuple[int, ...] = (25, 4, 1)


def main(settings: CompareSettings) -> None:
    """Print one row as soon as all scenes are done."""
    torch.set_num_threads(1)
    tracks = [scene_track(seed, "validation") for seed in range(settings.scenes)]
    print("| way | rows | mIoU_occ | mIoU | IoU with the teacher |\n| --- | --- | --- | --- | --- |", flush=True)
    baseline = TemporalSegmenter()
    temporal = [baseline(track.clip).mask for track in tracks]
    _print_row("temporal baseline", 0, temporal, tracks, None)
    teacher = _load(settings.teacher)
    reference: list[BoolArray] | None = None
    for steps in settings.steps:
        sampling = replace(teacher.settings.sampling, num_inference_steps=steps)
        masks = _masks(teacher, sampling, tracks, depth=settings.depth)
        reference = reference or masks
        guided = f", guidance {sampling.guidance_scale:g}" if sampling.guidance_scale > 1 else ""
        _print_row(f"teacher, {steps} steps{guided}", _rows(sampling), masks, tracks, reference)
    if settings.student is not None:
        student = _load(settings.student)
        sampling = student.settings.sampling
        masks = _masks(student, sampling, tracks, depth=settings.depth)
        _print_row(f"student, {sampling.num_inference_steps} step", _rows(sampling), masks, tracks, reference)


def _load(folder: Path) -> AmodalSegmentationPipeline:
    pipeline = AmodalSegmentationPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _rows(sampling: SamplingConfig) -> int:
    return sampling.network_passes * (2 if sampling.guidance_scale > 1 else 1)


def _masks(
    pipeline: AmodalSegmentationPipeline, sampling: SamplingConfig, tracks: list[MaskTarget], *, depth: bool
) -> list[BoolArray]:
    completer = AmodalCompleter(pipeline, None)
    config = CompletionConfig(sampling, None)
    return [
        completer(track.clip, config, depth=track.depth if depth else None, seed=seed).amodal_mask
        for seed, track in enumerate(tracks)
    ]


def _print_row(
    name: str, rows: int, masks: list[BoolArray], tracks: list[MaskTarget], reference: list[BoolArray] | None
) -> None:
    scores = [
        score_track(mask, track.clip.modal_mask, track.amodal_mask) for mask, track in zip(masks, tracks, strict=True)
    ]
    total = summarise(scores)
    agreement = ""
    if reference is not None:
        agreement = f"{np.mean([_iou(*pair) for pair in zip(masks, reference, strict=True)]):.3f}"
    print(f"| {name} | {rows} | {total.miou_occ.value:.3f} | {total.miou.value:.3f} | {agreement} |", flush=True)


def _iou(mask: BoolArray, other: BoolArray) -> float:
    """IoU of the pixels of all frames; 1 where both are empty."""
    union = int((mask | other).sum())
    return int((mask & other).sum()) / union if union else 1.0


if __name__ == "__main__":
    main(parse_settings(CompareSettings, sys.argv[1:]))
