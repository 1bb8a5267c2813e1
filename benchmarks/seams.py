"""Whether shapes jump where one window takes over from another, on validation scenes of 120 frames and their truth."""

import argparse

import numpy as np

from amodal_diffusion import AmodalCompleter, VideoClip
from amodal_diffusion.metrics import instability
from amodal_diffusion.synthetic import make_scene

FRAMES, SIZE, OVERLAP = 120, 16, 4  # windows of the bundled model


def seams() -> np.ndarray:
    """Which changes from one frame to the next lie where windows fade into each other, bool ``[F - 1]``."""
    starts = [*range(SIZE - OVERLAP, FRAMES - SIZE, SIZE - OVERLAP), FRAMES - SIZE]
    stop, found = SIZE, np.zeros(FRAMES - 1, dtype=np.bool_)
    for start in starts:
        found[start - 1 : stop] = True
        stop = start + SIZE
    return found


def main() -> None:
    """Print, of each scene and over all so far, the change that the truth does not have, at seams and elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20)))
    parser.add_argument("--depth", choices=["given", "none"], default="none")
    args = parser.parse_args()
    completer = AmodalCompleter.from_pretrained("tiny", stages=("amodal_segmentation",), device="cpu")
    rows, at_seams = [], seams()
    for seed in args.seeds:
        scene = make_scene(seed, split="validation", frames=FRAMES)
        clip = VideoClip(scene.rgb, scene.target.modal, scene.fps)
        result = completer(clip, depth=scene.depth if args.depth == "given" else None)
        rows.append(instability(result.amodal_mask, scene.target.amodal))
        for name, values in ((scene.name, rows[-1:]), (f"{len(rows)} scenes", rows)):
            at, elsewhere = (np.nanmean(np.stack(values)[:, where]) for where in (at_seams, ~at_seams))
            print(f"{name:18}  at seams {at:.4f}  elsewhere {elsewhere:.4f}  ratio {at / elsewhere:.2f}", flush=True)


if __name__ == "__main__":
    main()
