"""Several objects of a clip one by one and at once: seconds and peak memory of `complete`, side by side in one run.

Each way goes in processes of its own, in turn, so that whatever else the machine does slows them alike. Networks are
loaded before the clock starts. On a CPU a network takes windows one by one however many objects go at once; what is
gained there is the work around it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from _machine import GIB, peak_memory
from PIL import Image

from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.networks import Networks
from amodal_diffusion.completion.request import CompletionRequest, ModelChoice, Output, SamplingChoice, Source
from amodal_diffusion.io.images import write_mask_png
from amodal_diffusion.parsing import parse_settings

COLORS = np.array([(220, 60, 40), (60, 200, 90), (60, 90, 220)], dtype=np.uint8)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        at_once: objects at once, a way each; the first is what the others are held against.
        frames: of the clip.
        height: pixels of the clip; it is 16:9.
        repeats: of each way.
        model: a bundled name, a folder, or a hub id.
        device: torch's name of it.
        stages: `masks` leaves the painting out.
        one: measure this many at once in this process, on the clip in `folder`, and print it as JSON.
        folder: of the clip, for `one`.
    """

    at_once: tuple[int, ...] = (1, 3)
    frames: int = 24
    height: int = 180
    repeats: int = 3
    model: str = "tiny"
    device: str = "cpu"
    stages: str = "all"
    one: int = 0
    folder: str = ""


def write_inputs(folder: Path, settings: Settings) -> None:
    """Write a clip of three discs that pass behind a bar at times of their own, and what is seen of each."""
    height, width = settings.height, settings.height * 16 // 9
    rows, columns = np.ogrid[:height, :width]
    background = np.broadcast_to(np.linspace(60, 120, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    bar = np.s_[:, width * 15 // 32 : width * 17 // 32]
    for name in ("frames", *(f"masks/{number + 1}" for number in range(len(COLORS)))):
        (folder / name).mkdir(parents=True)
    for frame in range(settings.frames):
        rgb = background.copy()
        for number, color in enumerate(COLORS):
            column = width * (0.25 + 0.1 * number + 0.3 * frame / settings.frames)
            mask = (rows - height * (2 * number + 1) / 6) ** 2 + (columns - column) ** 2 < (height / 8) ** 2
            mask[bar] = False
            rgb[mask] = color
            write_mask_png(folder / f"masks/{number + 1}/{frame:05d}.png", mask)
        rgb[bar] = 30
        Image.fromarray(rgb).save(folder / f"frames/{frame:05d}.png")


def measure_one(settings: Settings) -> dict[str, float]:
    """Complete the clip's objects, so many at once, in this process."""
    folder = Path(settings.folder)
    with tempfile.TemporaryDirectory() as out:
        request = CompletionRequest(
            source=Source(clip=folder / "frames", masks=folder / "masks"),
            output=Output(out=Path(out) / "out", stages=settings.stages, quiet=True),
            model=ModelChoice(model=settings.model, device=settings.device),
            sampling=SamplingChoice(object_batch=settings.one),
        )
        networks = Networks(request)
        started, used = time.perf_counter(), time.process_time()
        complete_clip(request, networks=networks)
        spent = {"seconds": time.perf_counter() - started, "processor": time.process_time() - used}
    return {**spent, "peak": peak_memory(torch.device(networks.completer.device))}


def measure(settings: Settings) -> None:
    """Measure all ways in turn and print their table."""
    found: dict[int, list[dict[str, float]]] = {count: [] for count in settings.at_once}
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), settings)
        for _ in range(settings.repeats):
            for count, runs in found.items():
                flags = [f"--{name}={getattr(settings, name)}" for name in ("model", "device", "stages")]
                command = [sys.executable, __file__, f"--one={count}", f"--folder={folder}", *flags]
                printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                runs.append(json.loads(printed.splitlines()[-1]))
    print(
        f"{len(COLORS)} objects, {settings.frames} frames of {settings.height * 16 // 9}x{settings.height}, "
        f"{settings.device}, {torch.get_num_threads()} threads, median of {settings.repeats}\n\n"
        "| at once | seconds | x | of a processor | x | peak GiB |\n| --- | --- | --- | --- | --- | --- |"
    )
    first = found[settings.at_once[0]]
    for count, runs in found.items():
        cells = [str(count)]
        for name in ("seconds", "processor"):
            ratio = median(run[name] / base[name] for run, base in zip(runs, first, strict=True))
            cells += [f"{median(run[name] for run in runs):.1f}", f"{ratio:.2f}"]
        print(f"| {' | '.join(cells)} | {max(run['peak'] for run in runs) / GIB:.2f} |", flush=True)


if __name__ == "__main__":
    chosen = parse_settings(Settings, sys.argv[1:])
    if chosen.one:
        print(json.dumps(measure_one(chosen)))
    else:
        measure(chosen)
