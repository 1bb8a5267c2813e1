"""What skipping unoccluded frames costs and saves, on longer validation scenes."""

import argparse
from time import process_time

import numpy as np

from amodal_diffusion import AmodalCompleter, VideoClip
from amodal_diffusion.metrics import TrackScores, score_track, summarise
from amodal_diffusion.synthetic import make_scene

FRAMES = 96
# The first validation scenes that hide something of their object in 20 to 40 % of so many frames.
SEEDS = (67, 165, 186, 285, 287, 319, 349, 375, 380, 456, 490, 548, 557, 573, 605, 613, 634, 772)


def main() -> None:
    """Print mIoU_occ, mIoU and seconds of processor time by depth and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=len(SEEDS))
    parser.add_argument("--depth", nargs="+", choices=["given", "none"], default=["given", "none"])
    parser.add_argument("--stages", choices=["masks", "all"], default="masks")
    args = parser.parse_args()
    stages = ("amodal_segmentation", "content_completion")[: 1 if args.stages == "masks" else 2]
    scores: dict[tuple[str, str], list[TrackScores]] = {}
    seconds: dict[tuple[str, str], float] = {}
    completer = AmodalCompleter.from_pretrained("tiny", stages=stages, device="cpu")
    hidden = []
    for seed in SEEDS[: args.scenes]:
        scene = make_scene(seed, split="validation", frames=FRAMES)
        target = scene.target
        hidden.append((target.amodal & ~target.modal).any(axis=(1, 2)).mean())
        clip = VideoClip(scene.rgb, target.modal, scene.fps)
        for name in args.depth:
            depth = scene.depth if name == "given" else None
            for way in ("all", "skip"):
                started = process_time()
                result = completer(clip, completer.config(skip_unoccluded=way == "skip"), depth=depth)
                seconds[name, way] = seconds.get((name, way), 0.0) + process_time() - started
                found = score_track(result.amodal_mask, target.modal, target.amodal)
                scores.setdefault((name, way), []).append(found)
        lines = [f"{len(hidden)} scenes, hidden in {np.mean(hidden):.0%} of {FRAMES} frames"]
        for (name, way), tracks in scores.items():
            total = summarise(tracks)
            lines.append(f"depth {name:5}  {way:4}  mIoU_occ {total.miou_occ.value:.4f}  mIoU {total.miou.value:.4f}  "
                         f"{seconds[name, way]:6.1f} s")  # fmt: skip
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
