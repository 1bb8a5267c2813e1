"""What stage 2 paints, true masks given: `python benchmarks/painting.py --split composites-validation --cutouts DIR`.

Rows are the object's mean visible color, the nearest visible pixel of the frame, the frame that shows the object best,
the network alone, with seam blending, and with color propagation too, which is not its painting. Columns are PSNR of
the hidden pixels (dB of a clip's mean squared error, mean over clips) and the mean gradient magnitude of the hidden
pixels over the truth's. No depth. The bars: the network alone 3 dB above the mean color and 1 dB above the nearest
pixel, and a gradient of 0.5 to 1.5 times the truth's.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.baselines import copy_best_seen, fill_with_mean_color, fill_with_nearest
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.scenes import CompositesBenchmark, ScenesBenchmark
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.metrics import gradient_ratio, psnr
from amodal_diffusion.types import UInt8Array

ABOVE_MEAN, ABOVE_NEAREST = 3.0, 1.0
"""Decibels by which the network alone has to beat the mean color and the nearest visible pixel."""
GRADIENT = (0.5, 1.5)
WAYS = {"network alone": (False, False), "with seam blending": (True, False), "and color propagation": (True, True)}
"""Of the network: whether with seam blending, and whether with color propagation."""


def painted(
    track: MaskTarget, completer: AmodalCompleter, changes: dict[str, int], ways: int
) -> Iterator[tuple[str, UInt8Array]]:
    """What each way paints, uint8 ``[F, H, W, 3]``; of those of the network the first few."""
    clip, amodal = track.clip, track.amodal_mask
    yield "mean color", fill_with_mean_color(clip.rgb, clip.modal_mask)
    yield "nearest visible pixel", fill_with_nearest(clip.rgb, clip.modal_mask, amodal)
    yield "best seen frame", copy_best_seen(clip, amodal, None)
    for name, (seams, propagation) in list(WAYS.items())[:ways]:
        config = completer.config(seam_blending=seams, color_propagation=propagation, **changes)
        result = completer(clip, config, amodal_mask=amodal, seed=track.seed())
        if result.amodal_rgb is None:
            raise RuntimeError("stage 2 painted nothing")
        yield name, result.amodal_rgb


def score(
    track: MaskTarget, completer: AmodalCompleter, changes: dict[str, int], ways: int
) -> dict[str, tuple[float, float]]:
    """PSNR and gradient ratio of each way over the hidden pixels of a clip."""
    if track.amodal_rgb is None:
        raise RuntimeError(f"{track.identity}: has no whole object to compare with")
    whole, hidden = track.amodal_mask, track.amodal_mask & ~track.clip.modal_mask
    truth = cut_out_on_white(track.amodal_rgb, whole)
    found = ((name, cut_out_on_white(video, whole)) for name, video in painted(track, completer, changes, ways))
    return {name: (psnr(video, truth, hidden), gradient_ratio(video, truth, hidden)) for name, video in found}


def table(rows: list[dict[str, tuple[float, float]]]) -> str:
    """Means over clips as Markdown, and the bars with PASS or FAIL."""
    means = {name: np.nanmean([row[name] for row in rows], axis=0) for name in rows[0]}
    lines = ["| painted by | PSNR, dB | gradient |", "| --- | --- | --- |"]
    lines += [f"| {name} | {decibels:.2f} | {gradient:.2f} |" for name, (decibels, gradient) in means.items()]
    network = means["network alone"]
    bars = {
        f"{ABOVE_MEAN:g} dB above the mean color": network[0] - means["mean color"][0] >= ABOVE_MEAN,
        f"{ABOVE_NEAREST:g} dB above the nearest pixel": network[0] - means["nearest visible pixel"][0]
        >= ABOVE_NEAREST,
        f"gradient {GRADIENT[0]:g} to {GRADIENT[1]:g}": GRADIENT[0] <= network[1] <= GRADIENT[1],
    }
    return "\n".join(
        [*lines, *(f"{'PASS' if passed else 'FAIL'}: network alone, {bar}" for bar, passed in bars.items())]
    )


def main() -> None:
    """Score clips of a split and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="validation", help="validation, composites-validation or test-v2")
    parser.add_argument("--cutouts", type=Path, help="cut-outs of composites, see recipes/tiny/README.md")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--limit", type=int, default=48, help="stop before this clip")
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    parser.add_argument("--alone", action="store_true", help="skip seam blending and color propagation")
    parser.add_argument("--steps", type=int, help="denoising steps; the model's own by default")
    parser.add_argument("--out", type=Path, help="JSON file with all figures")
    given = parser.parse_args()
    if not 0 <= given.first < given.limit:
        parser.error(f"--first: expected a clip from 0 to before --limit {given.limit}, got {given.first}")
    if given.split == "validation":
        clips: ScenesBenchmark | CompositesBenchmark = ScenesBenchmark("validation", given.limit)
    else:
        clips = CompositesBenchmark(given.split, given.cutouts, given.limit)
    completer = AmodalCompleter.from_pretrained(given.model, stages=("content_completion",))
    changes = {} if given.steps is None else {"num_inference_steps": given.steps}
    tracks = (clips.track(number) for number in range(given.first, len(clips)))
    rows = [
        score(track, completer, changes, 1 if given.alone else len(WAYS))
        for track in tracks
        if (track.amodal_mask & ~track.clip.modal_mask).any() and track.clip.modal_mask.any()
    ]
    print(f"{given.split}: {len(rows)} clips that hide something, of {given.first} to {len(clips) - 1}")
    print(table(rows))
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
