"""Peak memory and time of `complete` on generated 720p clips of more and more frames, each in a process of its own."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from amodal_diffusion.types import BoolArray
from amodal_diffusion.video.encoding import VideoLayout, VideoWriter
from amodal_diffusion.video.pictures import write_mask_png
from amodal_diffusion.video.timing import Timing

HEIGHT, WIDTH, OBJECTS = 720, 1280, 3
BAR = np.s_[:, 600:680]
PERIOD = 400  # frames in which an object goes to the other side and back


def discs(frame: int) -> list[BoolArray]:
    """What is seen of three discs that pass behind a bar again and again."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    masks = []
    for number in range(OBJECTS):
        phase = (frame / PERIOD + number / OBJECTS) % 1
        column = 120 + (WIDTH - 240) * abs(2 * phase - 1)
        mask = (rows - 130 - 230 * number) ** 2 + (columns - column) ** 2 < 90**2
        mask[BAR] = False
        masks.append(mask)
    return masks


def write_inputs(folder: Path, frames: int) -> list[str]:
    """Write a clip and the masks of its objects; the arguments that name them."""
    colours = np.array([(220, 60, 40), (60, 200, 90), (60, 90, 220)], dtype=np.uint8)
    background = np.repeat(np.linspace(60, 120, WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, 0).repeat(3, 2)
    background[BAR] = 30
    for number in range(OBJECTS):
        (folder / f"masks/{number + 1}").mkdir(parents=True)
    layout = VideoLayout(HEIGHT, WIDTH, Timing.steady(frames, 25))
    with VideoWriter(folder / "clip.mp4", "mp4", layout) as video:
        for frame in range(frames):
            rgb = background.copy()
            for number, mask in enumerate(discs(frame)):
                rgb[mask] = colours[number]
                write_mask_png(folder / f"masks/{number + 1}/{frame:05d}.png", mask)
            video.write(rgb)
    return [str(folder / "clip.mp4"), "--masks", str(folder / "masks"), "--out", str(folder / "out")]


def main() -> None:
    """Print a line a length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--one", type=int, help="measure this length in this process; the others are made of it")
    args, options = parser.parse_known_args()
    if args.one is None:
        for frames in args.frames:
            subprocess.run([sys.executable, __file__, "--one", str(frames), *options], check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_inputs(Path(folder), args.one)
        started = time.perf_counter()
        command = [sys.executable, "-m", "amodal_diffusion", "complete", *inputs, "-q", "--device", "cpu", *options]
        subprocess.run(command, check=True)
        seconds, spent = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    print(f"{args.one:5d} frames: peak {spent.ru_maxrss * unit / 2**20:.0f} MiB, {seconds:.0f} s, of a processor "
          f"{spent.ru_utime + spent.ru_stime:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
