"""The whole table of a GPU in less than four minutes: a stage in several ways, `complete`, and a training step.

Networks have random weights. A row of stage 1 is one window of one object: the reference's way (25 guided steps in
float16, float32 VAE, conditions encoded frame by frame), and ours (bfloat16 throughout) under presets and options for
speed. `complete` is the command on a generated 720p clip of three objects, both stages, loading included. A training
step is one of the paper's at 128x256. Each row is printed when it is measured, and a row that would begin too late is
left out, so a run that is cut off has the rows before.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import full_size_step
import torch
from _machine import GIB, Machine, measure_machine, peak_memory, wait_for
from _ways import PARTS, SHAPES, Tuning, Watch, WayName, Ways, scene_track
from long_video import write_inputs
from torch.utils.flop_counter import FlopCounterMode

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.config import Preset
from amodal_diffusion.models.acceleration import Acceleration
from amodal_diffusion.models.checkpoint import CheckpointSettings
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.models.weights import find_device
from amodal_diffusion.parsing import parse_settings
from amodal_diffusion.training.settings import CompileMode

COLUMNS = (
    "row", "seconds", "denoise, s", "conditions, s", "decode, s", "of the first", "TFLOP", "of matrix rate", "peak GiB",
)  # fmt: skip
STAGE_1: Stage = "amodal_segmentation"
# The command in a process of its own, which says what it took at most.
COMMAND = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from _machine import peak_memory
from amodal_diffusion.cli import main
status = main(sys.argv[3:])
print(peak_memory(torch.device(sys.argv[2])))
sys.exit(status)
"""
Part = Literal["stage", "complete", "training"]
PRESETS: tuple[Preset, ...] = ("default", "paper")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        size: `full` is 1.5 G parameters at 256x512, the default on a GPU; `smallest` shows that the script runs, and is
            the default on a CPU.
        device: torch's name of it, or auto.
        parts: of the table.
        compile: also the compiled rows, which take most of the time; by default on a GPU alone.
        repeats: of each row after the first, which is not counted; the median counts.
        frames: of the 720p clip.
        seconds: no row begins later than this.
        out: JSON file for the table, with the table in Markdown beside it.
    """

    size: Literal["full", "smallest"] | None = None
    device: str = "auto"
    parts: tuple[Part, ...] = ("stage", "complete", "training")
    compile: bool | None = None
    repeats: int = 2
    frames: int = 25
    seconds: float = 210.0
    out: Path | None = None


@dataclass(frozen=True)
class Row:
    """A line of the table; what was not measured is None.

    Attributes:
        name: first cell.
        seconds: of the whole.
        parts: seconds of `denoise`, `conditions` and `decode`.
        ratio: seconds over those of the first row of the same kind.
        operations: in all, in floating-point operations.
        rate: share of the measured rate of matrix products.
        peak: most bytes.
        note: why there are no figures.
    """

    name: str
    seconds: float | None = None
    parts: tuple[float, ...] = ()
    ratio: float | None = None
    operations: int | None = None
    rate: float | None = None
    peak: int | None = None
    note: str = ""

    def line(self) -> str:
        """The row in Markdown."""
        if self.note:
            return f"| {self.name} | {self.note} |" + " |" * (len(COLUMNS) - 2)
        denoise, conditions, decode = (*(f"{part:.3f}" for part in self.parts), "", "", "")[:3]
        cells = [
            f"{self.seconds:.3f}", denoise, conditions, decode,
            "" if self.ratio is None else f"{self.ratio:.3f}",
            "" if self.operations is None else f"{self.operations / 1e12:.3g}",
            "" if self.rate is None else f"{self.rate:.2f}",
            "" if self.peak is None else f"{self.peak / GIB:.2f}",
        ]  # fmt: skip
        return f"| {self.name} | {' | '.join(cells)} |"


@dataclass(frozen=True)
class StageRow:
    """A row of stage 1.

    Attributes:
        name: first cell.
        way: of sampling.
        dtype: of the networks; the reference's VAE is float32.
        acceleration: options for speed.
    """

    name: str
    way: WayName
    dtype: torch.dtype
    acceleration: Acceleration = field(default_factory=Acceleration)


def stage_rows(device: torch.device, *, compiled: bool) -> list[StageRow]:
    """The rows of stage 1, those last that take long."""
    half = torch.float16 if device.type == "cuda" else torch.bfloat16  # which a CPU computes in float32
    brain = torch.bfloat16
    rows = [
        StageRow("reference: 25 guided steps, float32 VAE", "reference", half),
        StageRow("paper, bf16", "paper", brain),
        StageRow("default, bf16", "default", brain),
        StageRow("paper, bf16, --cuda-graphs", "paper", brain, Acceleration(cuda_graphs=True)),
        StageRow("default, bf16, --cuda-graphs", "default", brain, Acceleration(cuda_graphs=True)),
        StageRow("paper, bf16, --channels-last", "paper", brain, Acceleration(channels_last=True)),
    ]
    slow = [
        StageRow("paper, bf16, --compile", "paper", brain, Acceleration(compile=True)),
        StageRow("paper, bf16, --compile --cuda-graphs", "paper", brain, Acceleration(compile=True, cuda_graphs=True)),
    ]
    return rows + slow if compiled else rows


class Table:
    """Measures rows one after the other, and prints and writes each at once."""

    def __init__(self, settings: Settings) -> None:
        """Measure the rate of matrix products, and print the head."""
        self._started = time.perf_counter()
        self.device = find_device(settings.device)
        on_gpu = self.device.type != "cpu"
        self.size = settings.size or ("full" if on_gpu else "smallest")
        self.compiled = on_gpu if settings.compile is None else settings.compile
        self.settings = settings
        self.machine: Machine = measure_machine(self.device, torch.bfloat16)
        self.rows: list[Row] = []
        self._operations: dict[str, dict[str, int]] = {}
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        self.head = (
            f"{name}, torch {torch.__version__}, size {self.size}; bf16 matrix product "
            f"{self.machine.operations / 1e12:.3g} TFLOP/s"
        )
        print(f"{self.head}\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)

    def measure(self, name: str, work: Callable[[], Row]) -> None:
        """Add a row; what cannot run, or begins too late, gets a note in the place of figures."""
        if time.perf_counter() - self._started > self.settings.seconds:
            row = Row(name, note="left out: no time")
        else:
            try:
                row = work()
            except torch.OutOfMemoryError:
                row = Row(name, note="out of memory")
            except (InputError, subprocess.CalledProcessError) as error:
                row = Row(name, note=" ".join(str(error).split()).replace("|", "/")[:150])
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.rows.append(row)
        print(row.line(), flush=True)
        self._write()

    def ratio(self, seconds: float, first: str) -> float | None:
        """Seconds over those of a row of this name."""
        found = [row.seconds for row in self.rows if row.name == first and row.seconds]
        return seconds / found[0] if found else None

    def operations(self, key: str, count: Callable[[], dict[str, int]]) -> dict[str, int]:
        """Operations of equal work by part, counted once."""
        if key not in self._operations:
            self._operations[key] = count()
        return self._operations[key]

    def fresh_peak(self) -> None:
        """Forget the memory that was taken before; on a CPU the peak is that of the whole process."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _write(self) -> None:
        out = self.settings.out
        if out is None:
            return
        figures = {"head": self.head, "machine": asdict(self.machine), "rows": [asdict(row) for row in self.rows]}
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        lines = [self.head, "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
        lines += [row.line() for row in self.rows]
        out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_stage(table: Table, entry: StageRow, *, first: str) -> Row:
    """Stage 1 of one window of one object in one way."""
    ways = Ways(STAGE_1, size=table.size, model="", device=table.device, tuning=Tuning(entry.dtype))
    track = scene_track(0, ways.window, depth=True)
    operations = table.operations(
        "paper" if entry.way == "reference" else entry.way, lambda: ways.count(entry.way, track)
    )
    ways.accelerate(entry.acceleration)
    ways.run(entry.way, track, Watch())  # not counted: kernels are chosen, compiled and captured
    table.fresh_peak()
    runs = []
    for _ in range(table.settings.repeats):
        watch = Watch()
        ways.run(entry.way, track, watch)
        runs.append(watch.seconds)
    of = {name: median(seconds[name] for seconds in runs) for name in PARTS}
    return Row(
        entry.name,
        of["stage"],
        (of["denoise"], of["conditions"], of["decode"]),
        table.ratio(of["stage"], first),
        operations["stage"],
        operations["denoise"] / of["denoise"] / table.machine.operations,
        peak_memory(table.device),
    )


def write_model(table: Table, folder: Path) -> None:
    """Write a checkpoint of both stages with random weights, as released ones are: in float16."""
    parts = Ways(STAGE_1, size=table.size, model="", device=table.device, tuning=Tuning()).parts
    settings = CheckpointSettings("content_completion", parts.settings.sampling, parts.settings.presets)
    save_model([parts, replace(parts, settings=settings)], folder, dtype="float16")


def measure_complete(table: Table, name: str, folder: Path, preset: Preset) -> Row:
    """The command on a generated 720p clip, both stages, in a process of its own; its wall time includes loading."""
    inputs, out = folder / "inputs", folder / preset
    if not inputs.is_dir():
        write_model(table, folder / "model")
        gc.collect()
        if table.device.type == "cuda":
            torch.cuda.empty_cache()
        write_inputs(inputs, table.settings.frames)
    here = Path(__file__).parent
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(here), table.device.type, "complete", str(inputs / "clip.mp4"),
         "--masks", str(inputs / "masks"), "--model", str(folder / "model"), "--device", str(table.device),
         "--preset", preset, "--object-batch", "3", "--depth", "none", "--out", str(out), "-q"],
        check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(here.parent)},
    )  # fmt: skip
    return Row(name, time.perf_counter() - started, peak=int(done.stdout.split()[-1]))


@dataclass(frozen=True)
class TrainingRow:
    """A row of the training step.

    Attributes:
        name: first cell.
        clips: of a step.
        compile: mode in which the network is compiled, as `model.compile_mode`; ``reduce-overhead`` captures the
            kernels of the forward and the backward pass as CUDA graphs on a GPU. Not compiled when None.
        gradient_checkpointing: compute activations again in the backward pass.
    """

    name: str
    clips: int = 1
    compile: CompileMode | None = None
    gradient_checkpointing: bool = False


TRAINING = (
    TrainingRow("training step, 1 clip"),
    TrainingRow("training step, 4 clips", 4),
    TrainingRow("training step, 1 clip, checkpointing", gradient_checkpointing=True),
)
COMPILED_TRAINING = (
    TrainingRow("training step, 1 clip, compiled and captured", compile="reduce-overhead"),
    TrainingRow("training step, 1 clip, compiled", compile="default"),
)


def measure_training(table: Table, entry: TrainingRow) -> Row:
    """A training step at 128x256, or at the smallest size."""
    shape = SHAPES[table.size]
    size = full_size_step.Settings(unet=shape.unet, gradient_checkpointing=entry.gradient_checkpointing)
    if table.size == "smallest":
        size = replace(size, frames=2, height=32, width=64)
    step = full_size_step.Step(size, table.device, clips=entry.clips)

    def count() -> dict[str, int]:
        with FlopCounterMode(display=False) as counter:
            step(0)
        return {"step": int(counter.get_total_flops())}

    operations = table.operations(f"step of {entry.clips}, {entry.gradient_checkpointing}", count)["step"]
    if entry.compile is not None:
        step.unet.compile(mode=entry.compile)
    for number in range(2 if entry.compile is None else 4):  # the first passes compile, and then capture
        step(number)
    wait_for(table.device)
    table.fresh_peak()
    seconds = []
    for number in range(2 * table.settings.repeats):
        started = time.perf_counter()
        step(number)
        wait_for(table.device)
        seconds.append(time.perf_counter() - started)
    took = median(seconds)
    ratio = table.ratio(took, TRAINING[0].name)
    rate = operations / took / table.machine.operations
    return Row(entry.name, took, (), ratio, operations, rate, peak_memory(table.device))


def main(settings: Settings) -> None:
    """Print the table; what takes long comes last."""
    quieten_libraries(quiet=True)
    table = Table(settings)
    stages = stage_rows(table.device, compiled=table.compiled)
    training = TRAINING + (COMPILED_TRAINING if table.compiled else ())
    with tempfile.TemporaryDirectory() as folder:
        jobs: list[tuple[bool, str, Callable[[], Row]]] = []
        if "stage" in settings.parts:
            work = partial(measure_stage, table, first=stages[0].name)
            jobs += [(entry.acceleration.compile, entry.name, partial(work, entry)) for entry in stages]
        for entry in training if "training" in settings.parts else ():
            jobs.append((entry.compile is not None, entry.name, partial(measure_training, table, entry)))
        for preset in PRESETS if "complete" in settings.parts else ():
            name = f"complete --preset {preset}, 720p, {settings.frames} frames, 3 objects"
            jobs.append((preset == "paper", name, partial(measure_complete, table, name, Path(folder), preset)))
        for _, name, job in sorted(jobs, key=lambda entry: entry[0]):
            table.measure(name, job)


if __name__ == "__main__":
    main(parse_settings(Settings, sys.argv[1:]))
