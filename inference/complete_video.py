"""Complete each object of a clip, mask and colors (both stages), with the Python API.

    python inference/complete_video.py CLIP --masks MASKS --out DIR

`amodal-diffusion complete CLIP --masks MASKS --out DIR` does the same with resume and all options.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from amodal_diffusion import AmodalCompleter, InputError, VideoClip
from amodal_diffusion.io.depth_files import read_depth
from amodal_diffusion.io.images import write_mask_png, write_rgba_png
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.video_reader import read_clip


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Complete each object of a clip: amodal mask and colors.")
    parser.add_argument("clip", type=Path, help="video file or folder of pictures")
    parser.add_argument("--masks", type=Path, required=True, help="modal masks: pictures, labels, video or COCO JSON")
    parser.add_argument("--depth", type=Path, help="depth maps, nearer is larger (default: without depth)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write: amodal_masks and completed by object")
    parser.add_argument("--model", default="tiny", help="bundled name, folder or hub id (default: tiny)")
    parser.add_argument("--content-model", help="where stage 2 is, if not in the model")
    parser.add_argument("--preset", choices=["fast", "default", "paper"], help="default: the checkpoint's own")
    parser.add_argument("--steps", type=int, help="denoising steps of each stage (default: the preset's)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    return parser.parse_args()


def main() -> None:
    """Complete a clip, step by step."""
    options = parse_args()

    # 1. Load both stages and choose how they are sampled.
    completer = AmodalCompleter.from_pretrained(options.model, content_model=options.content_model)
    config = completer.config(preset=options.preset, num_inference_steps=options.steps)

    # 2. Read the frames, the modal masks of all objects, and depth.
    frames, fps = read_clip(options.clip)
    tracks = read_masks(options.masks)
    depth = None if options.depth is None else read_depth(options.depth)

    for name, track in tracks.items():
        # 3. Predict the whole object, then its hidden colors.
        clip = VideoClip(frames, np.stack(list(track)), fps)
        result = completer(clip, config, depth=depth, seed=options.seed)

        # 4. Save one mask and one RGBA layer a frame.
        masks, layers = options.out / name / "amodal_masks", options.out / name / "completed"
        for folder in (masks, layers):
            folder.mkdir(parents=True, exist_ok=True)
        for index, (mask, layer) in enumerate(zip(result.amodal_mask, result.rgba, strict=True)):
            write_mask_png(masks / f"{index:05d}.png", mask)
            write_rgba_png(layers / f"{index:05d}.png", layer)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
