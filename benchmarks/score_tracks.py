"""Seconds and peak memory of all mask metrics on more and more tracks of 25 frames, shared by two processes."""

import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from amodal_diffusion.evaluation.scores import MaskPool, score_masks

COUNTS = (100, 300, 1000)
PROCESSES = 2
FRAMES, HEIGHT, WIDTH = 25, 256, 512
MEBI = 1 << 20


def track(number: int) -> Iterator[np.ndarray]:
    """Prediction, modal and amodal masks: an ellipse that passes behind a bar, predicted a little off."""
    draw = np.random.default_rng(number).uniform
    tall, wide, row = draw(25, 80), draw(25, 110), draw(90, 160)
    columns = np.linspace(draw(60, 200), draw(300, 450), FRAMES)
    y, x = np.ogrid[:HEIGHT, :WIDTH]

    def ellipses(shift: float, size: float) -> np.ndarray:
        return np.stack([((y - row - shift) / tall) ** 2 + ((x - column) / wide) ** 2 < size for column in columns])

    amodal = ellipses(0, 1)
    modal = amodal & ~((x > 220) & (x < 220 + draw(20, 150)))
    yield from (ellipses(draw(-6, 6), draw(0.8, 1.2)), modal, amodal)


def score(numbers: range) -> tuple[float, float, float]:
    """Score tracks one by one: seconds of the metrics by clock and by processor, and MiB at most."""
    pool, seconds, processor = MaskPool(), 0.0, 0.0
    for number in numbers:
        masks = tuple(track(number))
        started, begun = time.perf_counter(), time.process_time()
        pool.add([score_masks(*masks)])
        seconds += time.perf_counter() - started
        processor += time.process_time() - begun
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBI


def measure(count: int) -> None:
    """Share the tracks among processes and print what the slowest took."""
    parts = [range(first, count, PROCESSES) for first in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as workers:
        results = workers.map(score, parts)
    seconds, processor, memory = (max(values) for values in zip(*results, strict=True))
    print(
        f"{count:5d} tracks of {FRAMES} frames of {WIDTH}x{HEIGHT} on {PROCESSES} processes: {seconds:6.1f} s "
        f"({processor:.1f} s of a processor), peak memory of a process {memory:4.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
    else:
        for tracks in COUNTS:
            subprocess.run([sys.executable, __file__, str(tracks)], check=True)
