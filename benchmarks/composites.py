"""Composites a second: `python benchmarks/composites.py --folder runs/cutouts --device cuda --batch 32`.

Without a folder of cut-outs the things are made-up ones, which takes as long. On the CPU one thread is used. The clips
are 128x128 with 16 frames unless other sizes are given; the first batch is not counted.
"""

import argparse
import time
from pathlib import Path

import torch
from _machine import wait_for

from amodal_diffusion.synthetic.composites.clips import Composer
from amodal_diffusion.synthetic.composites.cutouts import CutoutSet
from amodal_diffusion.synthetic.composites.made import made_cutouts
from amodal_diffusion.synthetic.composites.tool_errors import ErrorShares


def rates(composer: Composer, batch: int, seconds: float) -> tuple[float, float]:
    """Clips a second of wall time, and of the host's processor time, after one batch."""
    composer(range(batch))
    wait_for(composer.device)
    started, processor, made = time.perf_counter(), time.process_time(), batch
    while time.perf_counter() - started < seconds:
        composer(range(made, made + batch))
        made += batch
    wait_for(composer.device)
    clips = made - batch
    return clips / (time.perf_counter() - started), clips / (time.process_time() - processor)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="cut-outs, see recipes/tiny/README.md")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--made", type=int, default=8, help="made-up cut-outs of each role")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cutouts = made_cutouts("train", given.made)
    if given.folder is not None:
        cutouts = CutoutSet.read(given.folder, "train").joined(cutouts)
    else:
        holed = [k for k, role in enumerate(cutouts.roles) if role == "holed"]
        pictures = cutouts.pixels.permute(0, 2, 3, 1).numpy()
        things = [("thing", cutouts.cutouts[k], [pictures[cutouts.first[k]]]) for k in holed]
        cutouts = CutoutSet.of(things).joined(cutouts)
    print("| errors of tools | clips a second | clips a second of processor time |\n| --- | --- | --- |")
    for name, errors in (("none", ErrorShares()), ("all clips", ErrorShares(1.0, 1.0))):
        size = {"frames": given.frames, "height": given.height, "width": given.width}
        composer = Composer(cutouts, "train", device=given.device, errors=errors, **size)
        wall, processor = rates(composer, given.batch, given.seconds)
        print(f"| {name} | {wall:.1f} | {processor:.1f} |")
