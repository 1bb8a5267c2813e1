"""Random access to a video and one pass through it: this package's reader, plain PyAV with seeking, and decord.

The video is made first: moving noise over a gradient, H.264 in MP4. Random access reads clips of 16 consecutive frames
at random places, as training does. Every reader gives RGB arrays, and the mean difference of its frames from those of
the package's reader is printed, so that no reader is fast by reading something else. Readers take turns in each
repetition, so that a change of the machine's load meets all of them; the least time counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.types import UInt8Array

CLIP = 16
Reader = Callable[[Path, int, int], UInt8Array]
"""Path, first frame and number of frames -> uint8 ``[F, H, W, 3]``."""


def main() -> None:
    """Make the video, read it with every reader and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=854)
    parser.add_argument("--key-frames", type=int, default=250, help="frames from one key frame to the next")
    parser.add_argument("--clips", type=int, default=10, help="clips that are read at random places")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    readers = {"open_clip": by_package, "PyAV with seeking": by_pyav}
    if importlib.util.find_spec("decord"):
        readers["decord"] = by_decord
    starts = random.Random(0).choices(range(args.frames - CLIP + 1), k=args.clips)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        make_video(path, frames=args.frames, height=args.height, width=args.width, key_frames=args.key_frames)
        truth = by_package(path, 0, args.frames)
        print(f"{args.frames} frames of {args.height} x {args.width}, a key frame every {args.key_frames}")
        print(f"{'reader':18}  one pass, s  {args.clips} clips of {CLIP}, s  mean difference")
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for _ in range(args.repeats):
            for name, reader in readers.items():
                whole = seconds(lambda reader=reader: reader(path, 0, args.frames))  # type: ignore[misc]
                clips = seconds(lambda reader=reader: [reader(path, start, CLIP) for start in starts])  # type: ignore[misc]
                times[name].append((whole, clips))
        for name, reader in readers.items():
            whole, clips = (min(column) for column in zip(*times[name], strict=True))
            errors = [
                np.abs(reader(path, start, CLIP).astype(np.int16) - truth[start : start + CLIP]).mean()
                for start in starts
            ]
            print(f"{name:18}  {whole:11.2f}  {clips:17.2f}  {max(errors):15.2f}")


def make_video(path: Path, *, frames: int, height: int, width: int, key_frames: int) -> None:
    """Write moving noise over a gradient, H.264 4:2:0 at 25 frames a second.

    Args:
        path: MP4 file.
        frames: number of frames.
        height: pixels, even.
        width: pixels, even.
        key_frames: frames from one key frame to the next.
    """
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (height, width + 2 * frames, 3), dtype=np.uint8)
    ramp = (np.linspace(0, 190, height)[:, None, None] + np.zeros((1, width, 3))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "23", "g": str(key_frames), "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(frames):
            picture = ramp + noise[:, 2 * index : 2 * index + width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def by_package(path: Path, start: int, count: int) -> UInt8Array:
    """Open the clip, which counts and checks all frames, and read from its first frame to the last that is needed."""
    frames = iter(open_clip(path))
    return np.stack([frame for index, frame in zip(range(start + count), frames, strict=False) if index >= start])


def by_pyav(path: Path, start: int, count: int) -> UInt8Array:
    """Go to the key frame before the clip and decode from there; this trusts the frame rate that the file states."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        unit = 1 / (stream.average_rate * stream.time_base)
        container.seek(round(start * unit) + (stream.start_time or 0), stream=stream)
        frames = _from(container.decode(stream), round(start * unit) + (stream.start_time or 0))
        return np.stack([frame.to_ndarray(format="rgb24") for _, frame in zip(range(count), frames, strict=False)])


def by_decord(path: Path, start: int, count: int) -> UInt8Array:
    """Decord's own random access, with its own threads."""
    import decord

    frames: UInt8Array = decord.VideoReader(str(path)).get_batch(range(start, start + count)).asnumpy()
    return frames


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _from(frames: Iterator[av.VideoFrame], tick: int) -> Iterator[av.VideoFrame]:
    return (frame for frame in frames if frame.pts is not None and frame.pts >= tick)


if __name__ == "__main__":
    main()
