"""Memory and start-up of a data set of 20,000 tracks (1 GB of JSON): a list of Python objects, and the index.

Each way runs in a process of its own with loader processes of its own, which read every record of some epochs in
random order.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from torch.utils.data import DataLoader, Dataset

from amodal_diffusion.data.index import TrackIndex
from amodal_diffusion.data.records import TrackRecord, open_records, parse_record

FRAMES, HEIGHT, WIDTH = 25, 800, 1280
SHAPES = 20  # tracks whose masks are drawn; the others share them under names of their own
MEBI = 1 << 20


def draw_track(number: int) -> TrackRecord:
    """A wavy blob of a person's size that moves behind a grating, so that its run lengths are as long as real ones."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    amodal = np.empty((FRAMES, HEIGHT, WIDTH), dtype=np.bool_)
    radius, waves = rng.uniform(70, 230), rng.integers(3, 12)
    top, left = rng.uniform(300, 500), rng.uniform(300, 900)
    for frame in range(FRAMES):
        down, across = rows - top, columns - left - 6 * frame
        wavy = radius * (1 + 0.15 * np.sin(waves * np.arctan2(down, across)))
        amodal[frame] = np.hypot(down, across) < wavy
    modal = amodal & (columns % 200 > 60)
    names = [f"clip/images/{frame:06d}.bmp" for frame in range(FRAMES)]
    return TrackRecord.from_masks(modal, amodal, image_ids=list(range(FRAMES)), image_file_names=names, obj_id=number)


def write_tracks(path: Path, tracks: int) -> None:
    """Write an annotation file of as many tracks."""
    shapes = [draw_track(number) for number in range(min(SHAPES, tracks))]
    with open_records(path) as write:
        for number in range(tracks):
            names = [f"sequence_{number // 100:04d}/images/{number % 100 * 30 + f:06d}.bmp" for f in range(FRAMES)]
            ids = [number * FRAMES + frame for frame in range(FRAMES)]
            shape = vars(shapes[number % len(shapes)])
            write(TrackRecord(**{**shape, "image_ids": ids, "image_file_names": names, "obj_id": number}))


class ListOfTracks:
    """What most code does: the whole file as Python objects."""

    def __init__(self, path: Path) -> None:
        self.entries = json.loads(path.read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self.entries)

    def record(self, number: int) -> TrackRecord:
        """Check one track."""
        return parse_record(self.entries[number], where=f"track {number}")


class Records(Dataset[int]):
    """Reads records for the loader."""

    def __init__(self, tracks: ListOfTracks | TrackIndex) -> None:
        self.tracks = tracks

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, number: int) -> int:
        return self.tracks.record(number).num_frames


def measure(way: str, path: Path, *, workers: int, epochs: int) -> None:
    """Open the file one way, read it with loader processes, print a row of the table."""
    this = psutil.Process()
    before, started = this.memory_info().rss, time.process_time()
    tracks = ListOfTracks(path) if way == "list" else TrackIndex(path)
    opened, kept = time.process_time() - started, this.memory_info().rss - before
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    loader = DataLoader(Records(tracks), batch_size=8, shuffle=True, num_workers=workers, persistent_workers=True)
    for _ in range(epochs):
        read = sum(len(batch) for batch in loader)
    loaders = [(child.memory_full_info(), child.cpu_times()) for child in this.children()]
    resident, private = (max(getattr(info, kind) for info, _ in loaders) for kind in ("rss", "uss"))
    total = kept + sum(info.uss for info, _ in loaders)
    seconds = sum(times.user + times.system for _, times in loaders)
    memory = " | ".join(f"{value / MEBI:.0f}" for value in (kept, most, resident, private, total))
    print(f"| {way} | {opened:.1f} s | {memory} | {1000 * seconds / (epochs * read):.1f} ms |", flush=True)


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Generate the file and measure each way in a process of its own."""
    path = folder / "annotations.json"
    write_tracks(path, arguments.tracks)
    size = path.stat().st_size / 1e9
    print(f"{arguments.tracks} tracks, {size:.2f} GB of JSON, {arguments.workers} loader processes")
    print("Times are CPU times, memory is in MiB.\n")
    print("| way | opened in | kept | at most | loader's RSS | loader's own | all together | a record |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    options = [f"--workers={arguments.workers}", f"--epochs={arguments.epochs}"]
    for way in ("list", "index, made", "index"):
        subprocess.run([sys.executable, __file__, *options, "--way", way, "--path", str(path)], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options.way, options.path, workers=options.workers, epochs=options.epochs)
    else:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as temporary:
            run(options, Path(temporary))
