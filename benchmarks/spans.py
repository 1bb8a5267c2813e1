"""What it costs and saves to ask the networks only where an object can be hidden, on longer validation scenes."""

import argparse
from collections.abc import Iterator
from time import process_time

import numpy as np

from amodal_diffusion import AmodalCompleter, VideoClip
from amodal_diffusion.data.scenes import Scene, make_scene
from amodal_diffusion.metrics import TrackScores, score_track, summarise

FRAMES = 96
LEAST, MOST = 0.2, 0.4  # share of the frames in which something of the object is hidden


def scenes(wanted: int) -> Iterator[Scene]:
    """The first validation scenes that hide their object in so many of their frames."""
    seed = found = 0
    while found < wanted:
        target = make_scene(seed, split="validation", frames=FRAMES, with_rgb=False).target
        share = (target.amodal & ~target.modal).any(axis=(1, 2)).mean()
        if LEAST <= share <= MOST:
            found += 1
            yield make_scene(seed, split="validation", frames=FRAMES)
        seed += 1


def main() -> None:
    """Print mIoU_occ, mIoU and seconds of processor time by depth and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--stages", choices=["masks", "all"], default="masks")
    args = parser.parse_args()
    stages = ("amodal_segmentation", "content_completion")[: 1 if args.stages == "masks" else 2]
    scores: dict[tuple[str, str], list[TrackScores]] = {}
    seconds: dict[tuple[str, str], float] = {}
    completer = AmodalCompleter.from_pretrained("tiny", stages=stages, device="cpu")
    hidden = []
    for scene in scenes(args.scenes):
        target = scene.target
        hidden.append((target.amodal & ~target.modal).any(axis=(1, 2)).mean())
        clip = VideoClip(scene.rgb, target.modal, scene.fps)
        for name, depth in (("given", scene.depth), ("none", None)):
            for way in ("all", "auto"):
                started = process_time()
                result = completer.complete(clip, depth=depth, spans=way)
                seconds[name, way] = seconds.get((name, way), 0.0) + process_time() - started
                found = score_track(result.amodal_mask, target.modal, target.amodal)
                scores.setdefault((name, way), []).append(found)
        print(f"{scene.name}: hidden in {hidden[-1]:.0%} of {FRAMES} frames", flush=True)
    print(f"{len(hidden)} scenes, hidden in {np.mean(hidden):.0%} of the frames")
    for key, tracks in scores.items():
        total = summarise(tracks)
        print(f"depth {key[0]:5}  {key[1]:4}  mIoU_occ {total.miou_occ.value:.4f}  mIoU {total.miou.value:.4f}  "
              f"{seconds[key]:6.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
