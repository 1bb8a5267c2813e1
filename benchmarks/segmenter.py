"""Masks of the segmenter without weights: `python benchmarks/segmenter.py [--shared DIR]`.

Each clip is prompted once, in the first frame that shows the object: by a click at the pixel farthest from the border
of its mask, by the box around the mask, or by the mask itself. Truth are the modal masks. Per clip: IoU of that frame,
mean IoU over all frames (1 where neither shows the object), and processor seconds a frame.

Clips are generated scenes of the validation split (16 frames of 360x640), and those in `--shared` (or AMODAL_SHARED):
folders `clips/NAME` with `clip.mp4` and `masks`.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import bounds, encode_rle
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.prompts import Box, MaskPrompt, Point, Prompts
from amodal_diffusion.io.video_reader import read_clip
from amodal_diffusion.models.segmenters.classical import ClassicalSegmenter
from amodal_diffusion.models.segmenters.protocol import segment_frames
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.types import BoolArray, UInt8Array

KINDS = ("click", "box", "mask")


def clips(scenes: int, shared: Path | None) -> Iterator[tuple[str, UInt8Array, BoolArray]]:
    """Name, frames and true masks of each clip."""
    for seed in range(scenes):
        scene = make_scene(seed, split="validation", frames=16, height=360, width=640)
        assert scene.rgb is not None
        yield scene.name, scene.rgb, scene.target.modal
    for folder in sorted((shared / "clips").iterdir()) if shared else []:
        (track,) = read_masks(folder / "masks").values()
        yield folder.name, read_clip(folder / "clip.mp4")[0], np.stack(list(track))


def prompt(kind: str, mask: BoolArray, frame: int) -> Prompts:
    """One prompt for the object of a mask."""
    if kind == "mask":
        return Prompts(masks=(MaskPrompt(encode_rle(mask), frame),))
    if kind == "box":
        (top, bottom), (left, right) = bounds(mask)
        return Prompts(boxes=(Box(left, top, right, bottom, frame),))
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return Prompts(points=(Point(float(x), float(y), frame),))


def iou(one: BoolArray, other: BoolArray) -> float:
    """Intersection over union; 1 if both are empty."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=12, help="generated scenes (default: %(default)s)")
    parser.add_argument("--shared", type=Path, default=os.environ.get("AMODAL_SHARED"), help="folder with clips/")
    chosen = parser.parse_args()
    print(f"{'clip':20}" + "".join(f"{kind + ' first':>14}{'clip':>7}{'s/frame':>9}" for kind in KINDS))
    generated: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for name, rgb, truth in clips(chosen.scenes, chosen.shared):
        frame, line = int(truth.any(axis=(1, 2)).argmax()), f"{name:20}"
        for kind in KINDS:
            started = time.process_time()
            try:
                found = segment_frames(rgb, prompt(kind, truth[frame], frame), ClassicalSegmenter())["1"]
            except InputError:  # selects nothing
                found = np.zeros_like(truth)
            seconds = (time.process_time() - started) / len(rgb)
            first, all_frames = iou(found[frame], truth[frame]), float(np.mean(list(map(iou, found, truth))))
            line += f"{first:14.2f}{all_frames:7.2f}{seconds:9.2f}"
            if name.startswith("validation"):
                generated[kind].append((first, all_frames))
        print(line, flush=True)
    if chosen.scenes:
        means = [np.mean(generated[kind], axis=0) for kind in KINDS]
        print(f"{'mean, generated':20}" + "".join(f"{first:14.2f}{clip:7.2f}{'':9}" for first, clip in means))


if __name__ == "__main__":
    main()
