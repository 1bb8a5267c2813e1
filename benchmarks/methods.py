"""Train a tiny version of each method of stage 1 for the same processor minutes, score them, and write `methods.md`.

Each method is trained from random weights by the project's own scripts and recipes, on generated scenes of the split
`train`, one program on one thread at a time. What is limited is the processor time of the programs, their starts
included, as the operating system counts it. A method whose training has several parts shares the minutes among them.
The same command goes on after an interruption and trains nothing twice.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from _minutes import ROOT, Part, State, note_operations, read_state, run_options, train_part
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main as run_command
from amodal_diffusion.models.hub import find_model
from amodal_diffusion.parsing import load_settings, parse_settings
from amodal_diffusion.training.c2f_seg.settings import C2FTrainingSettings
from amodal_diffusion.training.c2f_seg.setup import train as train_c2f_seg
from amodal_diffusion.training.log import refuse
from amodal_diffusion.training.s_amodal.settings import SAModalTrainingSettings
from amodal_diffusion.training.s_amodal.setup import train as train_s_amodal
from amodal_diffusion.training.sameo.settings import SameoTrainingSettings
from amodal_diffusion.training.sameo.setup import train as train_sameo
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.setup import train as train_diffusion

Name = Literal["c2f-seg", "s-amodal", "sameo", "diffusion"]
SPLIT = "validation"
BASELINES = ("modal", "hull", "temporal")
TINY = "tiny"
PROTOCOLS = ("strict", "released")


@dataclass(frozen=True)
class Method:
    """One method of the table.

    Attributes:
        parts: of its training, in order; the last exports the model.
        lacks: the pretrained network that is not available here, in two or three words.
        missing: what the published method does with it, and what stands in for it here.
    """

    parts: tuple[Part, ...]
    lacks: str
    missing: str


METHODS: dict[Name, Method] = {
    "c2f-seg": Method(
        (
            Part("autoencoder", "train_c2f_seg.py", "c2f_seg/tiny_autoencoder.yaml", 0.22),
            Part(
                "segmentation", "train_c2f_seg.py", "c2f_seg/tiny.yaml", 0.78,
                options={"autoencoder": "{folder}/autoencoder/model"},
            ),
        ),
        "pretrained ResNet",
        "The published method takes image features of a ResNet pretrained on ImageNet. No pretrained network of this "
        "size is available here: the features are trained with the rest.",
    ),
    "s-amodal": Method(
        (
            Part("sam", "train_sameo.py", "sameo/tiny.yaml", 0.45),
            Part("adapters", "train_s_amodal.py", "s_amodal/tiny.yaml", 0.55, options={"sam": "{folder}/sam/model"}),
        ),
        "pretrained SAM",
        "The published method puts adapters into a frozen SAM, pretrained on a billion masks. No pretrained SAM of "
        "this size is available here: the part `sam` stands in for it, within the minutes, and the encoder is trained "
        "on.",
    ),
    "sameo": Method(
        (Part("training", "train_sameo.py", "sameo/tiny.yaml"),),
        "pretrained SAM",
        "The published method trains the mask decoder of an EfficientSAM that is pretrained on a billion masks. No "
        "pretrained SAM of this size is available here: the encoder is trained with the decoder.",
    ),
    "diffusion": Method(
        (
            Part(
                "latents", "precompute.py", "diffusion/tiny.yaml", 0.3, "data.clips",
                {"data.cache": "{folder}/cache"},
            ),
            Part(
                "unet", "train_amodal_segmentation.py", "diffusion/tiny.yaml", 0.7, "steps",
                {"data.cache": "{folder}/cache", "data.clips": "{latents}"},
            ),
        ),
        "pretrained video UNet",
        "The published method starts from Stable Video Diffusion. No pretrained video UNet of this size is available "
        "here: the UNet is trained from random weights. The autoencoder is the bundled one, which was trained before, "
        "on composites and generated scenes; **its training is not in the minutes**.",
    ),
}  # fmt: skip

TRAIN: dict[str, tuple[type[Any], Callable[[Any], object]]] = {
    "train_c2f_seg.py": (C2FTrainingSettings, train_c2f_seg),
    "train_s_amodal.py": (SAModalTrainingSettings, train_s_amodal),
    "train_sameo.py": (SameoTrainingSettings, train_sameo),
    "train_amodal_segmentation.py": (TrainingSettings, train_diffusion),
}
"""Settings and Python equivalent of each script, to count the operations of a step."""


PAGE = """# Methods of stage 1, trained equally long

Tiny versions from random weights, trained for {budget}; seed {seed}, one thread, {date}. Training: generated scenes of
the split `train`, 8 frames of 64x128, a fifth of them with corrupted modal masks. Scored: the first {scenes} scenes of
the split `{split}`, {frames} frames, without depth; ± standard error over scenes.

```bash
{command}
```

## Scores

{scores}

The strict protocol counts every frame that has an object. The released one leaves a frame out of mIoU_occ if its hidden
part is missed completely ([docs/method.md](../docs/method.md), section 8), so a method that finds little looks better
there. Fully hidden: frames without a visible pixel, strict. Invented: pixels added in frames that hide nothing, as a
share of the visible ones. Seconds: wall clock on one thread. `tiny` is the bundled model, which was trained on a GPU,
on composites beside generated scenes.

What each method lacks here:

{missing}

## By occlusion, strict

mIoU / mIoU_occ of the frames with so many per cent of the object hidden; 100 are the fully hidden frames.

{strict}

## By occlusion, released

{released}

## Training

{training}

Operations are those of one step, forward and backward (`FlopCounterMode`), without the making of the clips. Minutes are
measured: processor time of the programs, starts included. The steps follow from the minutes; the learning rate falls to
zero at the last step. Thresholds and other sampling settings are those of the recipes, chosen on longer runs; those of
diffusion are the bundled model's, chosen on these validation scenes. None was tuned for this table.
"""


@dataclass(frozen=True)
class Settings:
    """The budget and the clips.

    Attributes:
        out: work folder for weights, logs and scores.
        table: file of the table.
        minutes: of processor time of each method.
        steps: of each part, or clips to encode, in place of the minutes; 0 for the minutes.
        limit: clips to score, the first of the split.
        seed: of weights, the order of the clips and all random choices of training.
        only: one method to train; the table then has the methods that are trained so far.
        skip_training: score what is in the work folder.
    """

    out: Path = Path("runs/methods")
    table: Path = ROOT / "benchmarks/methods.md"
    minutes: float = 25.0
    steps: int = 0
    limit: int = 48
    seed: int = 0
    only: Name | None = None
    skip_training: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: if one is out of range; names the first.
        """
        for name, least in (("minutes", 0.1), ("steps", 0), ("limit", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected at least {least}, got {getattr(self, name)}")

    def folder(self, method: Name) -> Path:
        """Work folder of a method."""
        return self.out.resolve() / method

    def model(self, method: Name) -> Path:
        """The trained model of a method."""
        return self.folder(method) / METHODS[method].parts[-1].name / "model"


def main(settings: Settings) -> int:
    """Train, score and write the table; the exit status."""
    if not settings.skip_training:
        for name in get_args(Name) if settings.only is None else (settings.only,):
            train_method(name, settings)
    trained = [name for name in get_args(Name) if finished(name, settings)]
    if not trained:
        raise InputError(f"out: {settings.out} has no trained method; leave out --skip_training")
    summary, timing = score(trained, settings)
    settings.table.write_text(table(trained, summary, timing, settings), encoding="utf-8")
    print(f"table: {settings.table}")
    return 0


def train_method(name: Name, settings: Settings) -> None:
    """Train all parts of a method that are not finished, then count the operations of a step of each."""
    folder, totals = settings.folder(name), dict[str, int]()
    for part in METHODS[name].parts:
        budget = None if settings.steps else 60 * settings.minutes * part.share
        state = train_part(part, folder, State(budget, settings.steps or None, settings.seed), totals)
        if part.trains and state.operations is None:
            note_operations(folder / f"{part.name}.json", operations_of_a_step(part, folder, state, totals))
        totals[part.name] = state.total or 0


def operations_of_a_step(part: Part, folder: Path, state: State, totals: Mapping[str, int]) -> float:
    """Floating-point operations of one optimizer step, forward and backward."""
    kind, train = TRAIN[part.script]
    with tempfile.TemporaryDirectory() as scratch, FlopCounterMode(display=False) as counter:
        options = run_options(part, folder, state, totals)
        options |= {part.total: "1", f"{part.loop}output": scratch}
        train(load_settings(kind, ROOT / "recipes" / part.recipe, options))
        return float(counter.get_total_flops())


def finished(name: Name, settings: Settings) -> bool:
    """Whether all parts of a method are trained."""
    states = [read_state(settings.folder(name) / f"{part.name}.json") for part in METHODS[name].parts]
    return all(state is not None and state.finished for state in states)


def score(trained: list[Name], settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Score baselines, the bundled weights and the trained methods by `evaluate`: its summary and its timing."""
    out = settings.out.resolve() / "scores"
    methods = [*BASELINES, TINY, *(str(settings.model(name)) for name in trained)]
    words = ["evaluate", "--benchmark", "scenes", "--split", SPLIT, "--limit", str(settings.limit), "--device", "cpu"]
    status = run_command([*words, "--methods", ",".join(methods), "--out", str(out), "--overwrite", "--quiet"])
    if status:
        raise InputError(f"out: the command evaluate ended with status {status}, see its message above")
    summary, timing = (json.loads((out / name).read_text(encoding="utf-8")) for name in ("summary.json", "timing.json"))
    return summary, timing


def table(trained: list[Name], summary: Mapping[str, Any], timing: Mapping[str, Any], settings: Settings) -> str:
    """The page, in Markdown."""
    rows: dict[str, str] = {name: name for name in BASELINES}
    rows |= {name: str(settings.model(name)) for name in trained}
    rows[f"{TINY} (trained longer)"] = TINY
    budget = f"{settings.steps} steps a part" if settings.steps else f"{settings.minutes:g} processor minutes each"
    counted = summary["tracks"]
    return PAGE.format(
        budget=budget,
        seed=settings.seed,
        date=time.strftime("%Y-%m-%d"),
        scenes=counted["scored"],
        split=SPLIT,
        frames=counted["frames"],
        command=_command(settings),
        scores=_scores(rows, summary, timing),
        strict=_ranges(rows, summary["by_occlusion"]),
        released=_ranges(rows, summary["by_occlusion_released"]),
        training=_training(trained, settings),
        missing="\n".join(f"- **{name}**: {METHODS[name].missing}" for name in trained),
    )


def _scores(rows: Mapping[str, str], summary: Mapping[str, Any], timing: Mapping[str, Any]) -> str:
    head = (
        "method", "mIoU", "mIoU_occ", "mIoU, fully hidden", "invented", "released: mIoU", "released: mIoU_occ",
        "seconds a frame", "parameters, M", "lacks",
    )  # fmt: skip
    counted = summary["tracks"]
    frames = counted["frames"] / counted["scored"]
    lines = []
    for row, name in rows.items():
        strict, released = (summary["methods"][name][protocol] for protocol in PROTOCOLS)
        lines.append((
            row, _mean(strict, "miou"), _mean(strict, "miou_occ"), _mean(strict, "miou_hidden"),
            _number(strict["invented"], 2), _mean(released, "miou"), _mean(released, "miou_occ"),
            f"{timing['seconds_a_prediction'][name] / frames:.4f}", _parameters(name), _lacks(row),
        ))  # fmt: skip
    return _markdown(head, lines)


def _ranges(rows: Mapping[str, str], curves: Mapping[str, Any]) -> str:
    lines = [
        (row, *(
            f"{_number(whole['value'])} / {_number(hidden['value'])}"
            for whole, hidden in zip(curves["miou"][name], curves["miou_occ"][name], strict=True)
        ))
        for row, name in rows.items()
    ]  # fmt: skip
    first = next(iter(rows.values()))
    lines.append(("frames", *(str(entry["frames"]) for entry in curves["miou"][first])))
    return _markdown(("method", *curves["percent_hidden"]), lines)


def _training(trained: list[Name], settings: Settings) -> str:
    lines = []
    for name in trained:
        for part in METHODS[name].parts:
            state = read_state(settings.folder(name) / f"{part.name}.json")
            if state is None:
                raise RuntimeError(f"{name}: finished, but {part.name} has no state")
            operations = "-" if state.operations is None else f"{state.operations / 1e9:.2f}"
            done = f"{state.done:,}" if part.trains else f"{state.done:,} clips encoded"
            lines.append((name, part.name, operations, done, f"{state.spent / 60:.2f}"))
    return _markdown(("method", "part", "GFLOP a step", "steps", "processor minutes"), lines)


def _lacks(row: str) -> str:
    """What a row's method would begin with, were it available."""
    name = "diffusion" if row.startswith(TINY) else row
    return METHODS[name].lacks if name in METHODS else ""


def _parameters(name: str) -> str:
    """Millions of parameters of stage 1, counted in the files of weights."""
    if name in BASELINES:
        return "0"
    count = 0
    folder = find_model(name) if name == TINY else Path(name)
    for path in folder.rglob("*.safetensors"):
        if "content_completion" in path.relative_to(folder).parts:
            continue
        with safe_open(path, framework="pt") as weights:
            count += sum(torch.Size(weights.get_slice(key).get_shape()).numel() for key in weights.keys())  # noqa: SIM118 - no mapping
    return f"{count / 1e6:.2f}"


def _mean(record: Mapping[str, Any], name: str) -> str:
    error = record[f"{name}_standard_error"]
    return _number(record[name]) + ("" if error is None else f" ± {_number(error)}")


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _markdown(head: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _command(settings: Settings) -> str:
    """The command that makes the whole table."""
    budget = ["--steps", str(settings.steps)] if settings.steps else ["--minutes", f"{settings.minutes:g}"]
    words = [*budget, "--limit", str(settings.limit), "--seed", str(settings.seed)]
    return shlex.join(["python", "benchmarks/methods.py", *words])


def _end(*_: object) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(main(parse_settings(Settings, sys.argv[1:], description=__doc__)))
    except InputError as error:
        sys.exit(refuse(error))
