"""Does ``--preset paper`` on the bundled model keep up with the default, and do its samples differ in hidden parts?

Stage 1 on the first validation scenes, strict protocol: the default settings, and the mean score of samples from
different noise under ``--preset paper``, cut at 0.5. Beside it the spread of the samples: the standard deviation over
samples of a frame's hidden area, as a share of the object's area; the mean over fully hidden frames and the mean over
frames that hide nothing. A scene's masks are kept in a folder when it is done, so the same command goes on where it
was stopped.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.basics import Stage
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.scenes import scene_track
from amodal_diffusion.metrics import TrackScores, score_track, summarise
from amodal_diffusion.pipelines.completer import CompletionConfig
from amodal_diffusion.pipelines.postprocessing import postprocess_mask
from amodal_diffusion.pipelines.preprocessing import clip_frames
from amodal_diffusion.types import BoolArray, FloatArray

SPLIT = "validation"
THRESHOLD = 0.5
MOST_BELOW = 0.03  # mIoU_occ that the paper's way may lack
LEAST_SPREAD, LEAST_RATIO = 0.05, 3.0  # of fully hidden frames; of it to that of frames that hide nothing


@dataclass(frozen=True)
class Masks:
    """What both ways predict for one scene.

    Attributes:
        default: by the default settings, bool ``[F, H, W]``.
        mean: the mean score of the samples, cut at 0.5, bool ``[F, H, W]``.
        samples: each cut at 0.5, bool ``[K, F, H, W]``.
        score: mean over the samples, at the network's size, float32 ``[F, h, w]``.
    """

    default: BoolArray
    mean: BoolArray
    samples: BoolArray
    score: FloatArray


def main() -> None:
    """Sample the scenes that the folder lacks and print the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="a bundled name, a folder, or a hub id")
    parser.add_argument("--scenes", type=int, default=48, help="the first N of the validation split")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--steps", type=int, default=25, help="fewer for a rehearsal")
    parser.add_argument("--depth", choices=["given", "none"], default="none")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, required=True, help="folder for the masks of each scene")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.keep.mkdir(parents=True, exist_ok=True)
    stage: Stage = "amodal_segmentation"
    completer = AmodalCompleter.from_pretrained(args.model, stages=(stage,), device="cpu", dtype=args.dtype)
    completer.warn_without_depth = False
    config = completer.config(
        preset="paper", samples=args.samples, mask_threshold=THRESHOLD, num_inference_steps=args.steps
    )
    told = [completer.fingerprints(), *map(completer.settings, (config, completer.config(preset="default")))]
    digest = hashlib.sha256(json.dumps([*told, args.dtype], sort_keys=True).encode()).hexdigest()[:12]
    way = f"{args.samples}x{args.steps}_{args.depth}_{digest}"
    tracks = [scene_track(seed, SPLIT) for seed in range(args.scenes)]
    found = []
    for seed, track in enumerate(tracks):
        path = args.keep / f"{seed:03d}_{way}.npz"
        if not path.exists():
            depth = track.depth if args.depth == "given" else None
            masks = sample(completer, config, track, depth, seed)
            part = path.with_suffix(".part.npz")
            np.savez_compressed(part, default=masks.default, mean=masks.mean, samples=masks.samples, score=masks.score)
            part.replace(path)
        with np.load(path) as kept:
            found.append(Masks(kept["default"], kept["mean"], kept["samples"], kept["score"]))
        print(f"scene {seed}: {_scene_line(track, found[-1])}", flush=True)
    report(tracks, found)


def sample(
    completer: AmodalCompleter, config: CompletionConfig, track: MaskTarget, depth: FloatArray | None, seed: int
) -> Masks:
    """Complete one scene both ways; the configuration is that of the paper's way."""
    paper = completer(track.clip, config, depth=depth, seed=seed)
    default = completer(track.clip, completer.config(preset="default"), depth=depth, seed=seed)
    stage = config.amodal_segmentation
    if paper.score is None or paper.samples is None or stage is None:
        raise RuntimeError(f"{track.identity}: expected scores and samples")
    frames = clip_frames(track.clip)
    mean = [
        postprocess_mask(torch.from_numpy(score), frame, stage)[0]
        for score, frame in zip(paper.score, frames, strict=True)
    ]
    return Masks(default.amodal_mask, np.stack(mean), paper.samples, paper.score)


def report(tracks: list[MaskTarget], found: list[Masks]) -> None:
    """Print both ways' mIoU_occ and the spread of the samples, with what was wanted of each."""
    default = summarise(_scores(track, masks.default) for track, masks in zip(tracks, found, strict=True))
    mean = summarise(_scores(track, masks.mean) for track, masks in zip(tracks, found, strict=True))
    below = default.miou_occ.value - mean.miou_occ.value
    print(f"\ndefault: mIoU_occ {default.miou_occ.value:.4f}, mIoU {default.miou.value:.4f}")
    print(f"paper, mean score: mIoU_occ {mean.miou_occ.value:.4f}, mIoU {mean.miou.value:.4f}")
    for number in range(len(found[0].samples)):
        one = summarise(_scores(track, masks.samples[number]) for track, masks in zip(tracks, found, strict=True))
        print(f"paper, sample {number}: mIoU_occ {one.miou_occ.value:.4f}, mIoU {one.miou.value:.4f}")
    print(f"below the default by {below:.4f}, wanted at most {MOST_BELOW}: {_verdict(below <= MOST_BELOW)}")
    spreads = [spread(track, masks) for track, masks in zip(tracks, found, strict=True)]
    hidden, whole = (float(np.mean(np.concatenate(part))) for part in zip(*spreads, strict=True))
    print(f"spread, fully hidden: {hidden:.4f}, wanted at least {LEAST_SPREAD}: {_verdict(hidden >= LEAST_SPREAD)}")
    ratio = hidden / whole if whole else float("inf")
    print(
        f"spread, nothing hidden: {whole:.4f}, {ratio:.1f} times less, wanted {LEAST_RATIO:g}: "
        f"{_verdict(ratio >= LEAST_RATIO)}"
    )


def spread(track: MaskTarget, masks: Masks) -> tuple[FloatArray, FloatArray]:
    """Standard deviation over samples of the hidden area, as a share of the object's.

    Returns:
        of each fully hidden frame, and of each frame that hides nothing, float64 ``[N]``.
    """
    modal, amodal = track.clip.modal_mask, track.amodal_mask
    areas = (masks.samples & ~modal).sum(axis=(2, 3))
    size = amodal.sum(axis=(1, 2))
    share = areas.std(axis=0) / np.maximum(size, 1)
    visible = modal.sum(axis=(1, 2))
    return share[(visible == 0) & (size > 0)], share[(visible == size) & (size > 0)]


def _scene_line(track: MaskTarget, masks: Masks) -> str:
    default, mean = (_scores(track, mask).miou_occ for mask in (masks.default, masks.mean))
    return f"mIoU_occ {default:.3f} by default, {mean:.3f} by the paper's way"


def _scores(track: MaskTarget, mask: BoolArray) -> TrackScores:
    return score_track(mask, track.clip.modal_mask, track.amodal_mask)


def _verdict(reached: bool) -> str:
    return "pass" if reached else "FAIL"


if __name__ == "__main__":
    main()
