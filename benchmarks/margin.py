"""How well the bundled model completes what lies outside the frame: scenes cut to their middle, against the whole."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.request import CompletionRequest, DepthChoice, Output, Source
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.scenes import ScenesBenchmark
from amodal_diffusion.evaluation.track_files import write_track
from amodal_diffusion.types import BoolArray, VideoClip

SHARE = 0.25
ROWS, COLUMNS = slice(12, 52), slice(22, 106)  # of 64 x 128, what the clip shows
CANVAS = np.s_[:, 2:62, 1:127]  # with margins of a quarter of that
LEAST = 20  # pixels of the object outside the frame, on average over frames


def outside(masks: BoolArray) -> BoolArray:
    """What of masks of the whole scene lies on the canvas but not in the frame."""
    margins = masks.copy()
    margins[:, ROWS, COLUMNS] = False
    return margins[CANVAS]


def predict(track: MaskTarget, folder: Path, depth: str) -> BoolArray:
    """Complete the clip's middle through the command."""
    cut = np.s_[:, ROWS, COLUMNS]
    clip = VideoClip(np.ascontiguousarray(track.clip.rgb[cut]), track.clip.modal_mask[cut], track.clip.fps)
    middle = MaskTarget(
        identity=track.identity,
        clip=clip,
        amodal_mask=track.amodal_mask[cut],
        depth=None if track.depth is None else track.depth[cut],
    )
    files = write_track(middle, folder)
    request = CompletionRequest(
        source=Source(clip=files.frames, masks=files.masks),
        output=Output(out=folder / depth, stages="masks", margin=SHARE, quiet=True),
        depth=DepthChoice(depth="none" if depth == "none" else str(files.depth)),
    )
    written = sorted((complete_clip(request) / "objects/1/amodal_masks").iterdir())
    canvas = np.stack([np.asarray(Image.open(path)) > 0 for path in written])
    whole = np.zeros_like(track.amodal_mask)
    whole[CANVAS] = canvas
    return whole


def main(wanted: int) -> None:
    """Print the IoU of the part outside the frame, pooled over frames, of each scene and over all."""
    totals = {"none": np.zeros(2), "given": np.zeros(2)}
    benchmark, found = ScenesBenchmark("validation"), 0
    for index in range(len(benchmark)):
        track = benchmark.track(index)
        truth = outside(track.amodal_mask)
        seen = track.clip.modal_mask[:, ROWS, COLUMNS]
        if truth.sum() < LEAST * len(truth) or not seen.any():
            continue
        found += 1
        line = f"{track.identity}: {truth.sum() / len(truth):5.0f} px outside a frame"
        for depth in totals:
            with tempfile.TemporaryDirectory() as folder:
                predicted = outside(predict(track, Path(folder), depth))
            counts = np.array([(predicted & truth).sum(), (predicted | truth).sum()])
            totals[depth] += counts
            line += f", depth {depth}: IoU {counts[0] / counts[1]:.3f}"
        print(line, flush=True)
        if found == wanted:
            break
    print(f"{found} scenes: " + ", ".join(f"depth {name}: {a / b:.3f}" for name, (a, b) in totals.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
