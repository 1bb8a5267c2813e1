"""Samples a second from shards and from folders: `python benchmarks/shards.py`.

Tracks of noisy frames are written as an annotation file with a folder of pictures, and from it as shards. Both are then
read in the order of training, sample by sample in turn, so that whatever else the machine does slows them alike; which
comes first alternates. Files are in the page cache. On the CPU one thread is used.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from amodal_diffusion.data.records import TrackRecord, write_records
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.data.shard_writer import WritingOptions, write_shards
from amodal_diffusion.data.shards import ShardDataset
from amodal_diffusion.training.order import ClipOrder
from amodal_diffusion.training.shard_sources import SourceOptions, open_source

MEBI = 1 << 20


def write_folder(folder: Path, tracks: int, shape: tuple[int, int, int], ending: str) -> Path:
    """Write an annotation file and its frames; returns the file.

    Args:
        folder: for both.
        tracks: number of tracks, each of a clip of its own.
        shape: F, H and W.
        ending: of the frames.
    """
    frames, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    records = []
    for number in range(tracks):
        rng = np.random.default_rng(number)
        clip, names, masks = folder / f"{number:04d}", [], []
        clip.mkdir(parents=True)
        for frame in range(frames):
            waves = 127 + 90 * np.sin(rows / rng.uniform(9, 40)) * np.cos((columns + 4 * frame) / rng.uniform(9, 40))
            pixels = np.clip(waves[..., None] + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)
            names.append(f"{clip.name}/{frame:05d}.{ending}")
            Image.fromarray(pixels).save(folder / names[-1])
            masks.append(np.hypot(rows - height / 2, columns - width / 3 - frame) < height / 4)
        amodal = np.stack(masks)
        modal = amodal & (columns % 40 > 12)
        ids = [number * frames + frame for frame in range(frames)]
        records.append(TrackRecord.from_masks(modal, amodal, image_ids=ids, image_file_names=names, obj_id=1))
    write_records(folder / "annotations.json", records)
    return folder / "annotations.json"


def read_in_turn(ways: dict[str, SailVosDataset | ShardDataset], epochs: int) -> dict[str, list[float]]:
    """Seconds that each read took, by way; the first epoch is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    length = len(next(iter(ways.values())))
    order = ClipOrder(length, seed=0)
    for count in range((epochs + 1) * length):
        names = list(ways) if count % 2 else list(ways)[::-1]
        for name in names:
            started = time.perf_counter()
            ways[name][order.clip_at(count)]
            if count >= length:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def compare(work: Path, ending: str, given: argparse.Namespace) -> None:
    """Print the rows of one kind of frames."""
    annotations = write_folder(work / ending, given.tracks, (given.frames, given.height, given.width), ending)
    out = f"{given.out.rstrip('/')}/{ending}" if given.out else str(work / f"shards-{ending}")
    started = time.perf_counter()
    with open_source(annotations, SourceOptions()) as source:
        write_shards(source, out, {}, WritingOptions(overwrite=True, quiet=True))
    writing = given.tracks / (time.perf_counter() - started)
    for what, with_rgb in (("frames and masks", True), ("masks alone", False)):
        settings = {"frames": given.frames, "with_rgb": with_rgb}
        packed = ShardDataset(out, **settings)
        seconds = read_in_turn({"folder": SailVosDataset(annotations, **settings), "shards": packed}, given.epochs)
        folder, shards = (len(times) / sum(times) for times in seconds.values())
        ratio = median(a / b for a, b in zip(seconds["folder"], seconds["shards"], strict=True))
        size = sum(map(packed.shards.size, range(len(packed)))) / len(packed) / MEBI
        print(
            f"| {ending} | {what} | {folder:.1f} | {shards:.1f} | {shards / folder:.2f} | {ratio:.2f} | {size:.2f} | "
            f"{writing:.1f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=16)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=3, help="counted, after one that is not")
    parser.add_argument(
        "--out", help="folder or URL for the shards, such as s3://bucket/benchmark (default: temporary)"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| frames | read | folder, samples/s | shards, samples/s | ratio | median ratio | MiB a sample | written/s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as work:
        for ending in ("jpg", "png", "bmp"):
            compare(Path(work), ending, given)
