"""Paint the hidden part of each object where its amodal masks are known (stage 2) with the Python API.

    python inference/complete_content.py CLIP --masks MASKS --amodal-masks MASKS --out DIR

`amodal-diffusion complete` with `--amodal-masks` does the same with resume and all options.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from amodal_diffusion import AmodalCompleter, InputError, VideoClip
from amodal_diffusion.io.images import write_rgba_png
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.video_reader import read_clip


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Paint the hidden part of each object inside known amodal masks.")
    parser.add_argument("clip", type=Path, help="video file or folder of pictures")
    parser.add_argument("--masks", type=Path, required=True, help="modal masks: pictures, labels, video or COCO JSON")
    parser.add_argument("--amodal-masks", type=Path, required=True, help="amodal masks of the same objects")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; layers are DIR/OBJECT/00000.png")
    parser.add_argument("--model", default="tiny", help="bundled name, folder or hub id (default: tiny)")
    parser.add_argument("--preset", choices=["fast", "default", "paper"], help="default: the checkpoint's own")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the preset's)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    return parser.parse_args()


def main() -> None:
    """Paint the hidden parts, step by step."""
    options = parse_args()

    # 1. Load stage 2 and choose how it is sampled.
    completer = AmodalCompleter.from_pretrained(options.model, stages=["content_completion"])
    config = completer.config(preset=options.preset, num_inference_steps=options.steps)

    # 2. Read the frames, and both masks of all objects.
    frames, fps = read_clip(options.clip)
    modal, amodal = read_masks(options.masks), read_masks(options.amodal_masks, what="amodal masks")
    if modal.keys() != amodal.keys():
        raise InputError(f"--amodal-masks: expected the objects {', '.join(modal)}, got {', '.join(amodal)}")

    for name, track in modal.items():
        # 3. Paint inside the amodal mask; visible pixels stay the input's.
        clip = VideoClip(frames, np.stack(list(track)), fps)
        whole = np.stack(list(amodal[name])) | clip.modal_mask
        result = completer(clip, config, amodal_mask=whole, seed=options.seed)

        # 4. Save one RGBA layer a frame.
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for index, layer in enumerate(result.rgba):
            write_rgba_png(folder / f"{index:05d}.png", layer)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
