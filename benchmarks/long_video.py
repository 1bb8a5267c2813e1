"""Peak memory and time of `complete` on generated 720p clips of more and more frames, each in a process of its own."""

import argparse
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from amodal_diffusion.io.images import write_mask_png
from amodal_diffusion.io.timing import Timing
from amodal_diffusion.io.video_writer import VideoLayout, VideoWriter
from amodal_diffusion.types import BoolArray

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
    colors = np.array([(220, 60, 40), (60, 200, 90), (60, 90, 220)], dtype=np.uint8)
    background = np.repeat(np.linspace(60, 120, WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, 0).repeat(3, 2)
    background[BAR] = 30
    for number in range(OBJECTS):
        (folder / f"masks/{number + 1}").mkdir(parents=True)
    layout = VideoLayout(HEIGHT, WIDTH, Timing.steady(frames, 25))
    with VideoWriter(folder / "clip.mp4", "mp4", layout) as video:
        for frame in range(frames):
            rgb = background.copy()
            for number, mask in enumerate(discs(frame)):
                rgb[mask] = colors[number]
                write_mask_png(folder / f"masks/{number + 1}/{frame:05d}.png", mask)
            video.write(rgb)
    return [str(folder / "clip.mp4"), "--masks", str(folder / "masks")]


def contents(out: Path) -> dict[str, bytes]:
    """Files of a result that tell no times."""
    left_out = ("manifest.json", "summary.json", "object.json")
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.*") if path.name not in left_out}


def run_with_kills(command: list[str], out: Path, kills: int, frames: int) -> list[str]:
    """Kill a command after even shares of its masks, start it again each time, let it end; where it went on."""
    part, lines = out.with_name(out.name + ".partial"), []
    for number in range(kills + 1):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            wanted = (2 * number + 1) * OBJECTS * frames // (2 * kills) if number < kills else math.inf
            while process.poll() is None:
                time.sleep(0.2)
                if sum(1 for _ in part.glob("objects/*/amodal_masks/*.png")) >= wanted:
                    process.kill()
            assert process.stderr is not None
            lines += [line.strip() for line in process.stderr if "goes on" in line and "%" not in line]
    return lines


def main() -> None:
    """Print a line a length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--one", type=int, help="measure this length in this process; the others are made of it")
    parser.add_argument("--kills", type=int, default=0, help="do it once more, with so many SIGKILLs, and compare")
    args, options = parser.parse_known_args()
    if args.one is None:
        for frames in args.frames:
            subprocess.run(
                [sys.executable, __file__, "--one", str(frames), f"--kills={args.kills}", *options], check=True
            )
        return
    unit = 1 if sys.platform == "darwin" else 1024
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write_inputs(folder, args.one)
        command = [sys.executable, "-m", "amodal_diffusion", "complete", *inputs, "--device", "cpu", *options, "--out"]
        started = time.perf_counter()
        subprocess.run([*command, str(folder / "out"), "-q"], check=True, stdout=subprocess.DEVNULL)
        seconds, spent = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{args.one:5d} frames: peak {spent.ru_maxrss * unit / 2**20:.0f} MiB, {seconds:.0f} s, of a processor "
              f"{spent.ru_utime + spent.ru_stime:.0f} s", flush=True)  # fmt: skip
        if args.kills:
            lines = run_with_kills([*command, str(folder / "again")], folder / "again", args.kills, args.one)
            same = contents(folder / "out") == contents(folder / "again")
            print(
                f"      killed {args.kills} times: {'same' if same else 'OTHER'} files; {'; '.join(lines)}", flush=True
            )


if __name__ == "__main__":
    main()
