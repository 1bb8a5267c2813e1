"""Seconds and peak memory of the bundled model on clips that get longer, each in a process of its own."""

import resource
import subprocess
import sys

import numpy as np

from amodal_diffusion import AmodalCompleter, VideoClip
from amodal_diffusion.pipelines.completer import ObjectStream
from amodal_diffusion.pipelines.preprocessing import clip_frames

LENGTHS = (16, 64, 256)
HEIGHT, WIDTH = 360, 640
MEBI = 1 << 20


def measure(frames: int) -> None:
    """Complete a square that slides behind a bar; print seconds by stage and the process's peak memory."""
    rgb = np.full((frames, HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    modal = np.zeros((frames, HEIGHT, WIDTH), dtype=np.bool_)
    for frame in range(frames):
        left = 40 + 440 * frame // frames
        modal[frame, 120:240, left : left + 120] = True
    modal[:, :, 300:340] = False
    completer = AmodalCompleter.from_pretrained("tiny", device="cpu")
    frames_in = ([frame] for frame in clip_frames(VideoClip(rgb, modal)))
    single = ObjectStream()
    for _ in completer.stream_objects(frames_in, [single]):
        pass
    times = "  ".join(f"{stage} {seconds:6.1f} s" for stage, seconds in single.statistics.seconds.items())
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBI
    print(f"{frames:4d} frames of {WIDTH}x{HEIGHT}: {times}  peak memory {peak:5.0f} MiB", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
    else:
        for length in LENGTHS:
            subprocess.run([sys.executable, __file__, str(length)], check=True)
