"""Predict the amodal mask of each object of a clip (stage 1) with the Python API.

    python inference/predict_amodal_masks.py CLIP --masks MASKS --out DIR

`amodal-diffusion complete CLIP --masks MASKS --out DIR --stages masks` does the same with resume and all options.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from amodal_diffusion import AmodalCompleter, InputError, VideoClip
from amodal_diffusion.io.depth_files import read_depth
from amodal_diffusion.io.images import write_mask_png
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.video_reader import read_clip


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Predict the amodal mask of each object of a clip.")
    parser.add_argument("clip", type=Path, help="video file or folder of pictures")
    parser.add_argument("--masks", type=Path, required=True, help="modal masks: pictures, labels, video or COCO JSON")
    parser.add_argument("--depth", type=Path, help="depth maps, nearer is larger (default: without depth)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; masks are DIR/OBJECT/00000.png")
    parser.add_argument("--model", default="tiny", help="bundled name, folder or hub id (default: tiny)")
    parser.add_argument("--preset", choices=["fast", "default", "paper"], help="default: the checkpoint's own")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the preset's)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    return parser.parse_args()


def main() -> None:
    """Predict masks, step by step."""
    options = parse_args()

    # 1. Load stage 1 and choose how it is sampled.
    completer = AmodalCompleter.from_pretrained(options.model, stages=["amodal_segmentation"])
    config = completer.config(preset=options.preset, num_inference_steps=options.steps)

    # 2. Read the frames, the modal masks of all objects, and depth.
    frames, fps = read_clip(options.clip)
    tracks = read_masks(options.masks)
    depth = None if options.depth is None else read_depth(options.depth)

    for name, track in tracks.items():
        # 3. Predict the whole object.
        clip = VideoClip(frames, np.stack(list(track)), fps)
        result = completer(clip, config, depth=depth, seed=options.seed)

        # 4. Save one mask a frame.
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for index, mask in enumerate(result.amodal_mask):
            write_mask_png(folder / f"{index:05d}.png", mask)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
