"""Make the bundled model from nothing: `python -m recipes.tiny.make_model --cutouts runs/cutouts --out runs/tiny`.

Three stages, one after the other, each by its own script: the shared autoencoder, stage 1, stage 2. `--minutes` ends a
piece with a checkpoint, and the same command goes on; from the first piece of stage 2 on, `OUT/model` has what is
trained so far. On a GPU give `--workers` the cores to spare. On a CPU the same command takes days: `--estimate` counts
the hours from 20 measured steps a stage. `--start FOLDER` goes on from the weights of a model, in its autoencoder, at
half the rate.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.parsing import load_settings, parse_settings
from amodal_diffusion.training.checkpoints import PROGRESS, complete_checkpoints
from amodal_diffusion.training.log import log_to_terminal, refuse
from amodal_diffusion.training.settings import TrainingSettings
from recipes.tiny.shared_autoencoder import SharedAutoencoderSettings
from recipes.tiny.start_weights import model_folder

ROOT = Path(__file__).resolve().parents[2]
NOTICE = ROOT / "recipes/tiny/NOTICE.md"
"""Licenses of the pictures, which go with the weights."""
MEASURED = 20
"""Steps of each stage that an estimate measures."""
_SCRIPTS: dict[Stage, str] = {
    "amodal_segmentation": "train/train_amodal_segmentation.py",
    "content_completion": "train/train_content_completion.py",
}


@dataclass(frozen=True)
class MakeSettings:
    """What is made, where, and for how long.

    Attributes:
        cutouts: folder of cut-outs, as collect_cutouts.py writes it.
        out: folder of all stages; the model is in its ``model/``.
        recipe: folder with the settings of the three stages, ``autoencoder.yaml`` and one file named as each stage.
        minutes: end this piece after so many minutes; 0 for no limit.
        start: model to go on from; None starts from random weights.
        launch: Accelerate's file of a launch with several processes; None for one process.
        batch_size: clips that a process takes at once, with the same clips a step in all; by default 32 on a GPU,
            and what the recipe says on a CPU.
        workers: processes that make clips ahead; 0 makes them between the steps.
        estimate: measure 20 steps of each stage and print the hours; nothing is trained.
    """

    cutouts: Path = Path("runs/cutouts")
    out: Path = Path("runs/tiny")
    recipe: Path = ROOT / "recipes/tiny"
    minutes: float = 0.0
    start: Path | None = None
    launch: Path | None = None
    batch_size: int | None = None
    workers: int = 0
    estimate: bool = False


class Maker:
    """The three stages with their settings and commands.

    Args:
        settings: of the command line.

    Raises:
        InputError: if the recipe or the start weights cannot be read.
    """

    def __init__(self, settings: MakeSettings) -> None:
        self.settings = settings
        self.autoencoder = load_settings(SharedAutoencoderSettings, settings.recipe / "autoencoder.yaml")
        self.stages = {name: load_settings(TrainingSettings, settings.recipe / f"{name}.yaml") for name in STAGES}
        settings.out.mkdir(parents=True, exist_ok=True)
        self.start = None
        if settings.start is not None:
            self.start = model_folder(settings.start, self.stages, settings.out / "start")

    # Each stage: how far it is, and the command that goes on with it.

    def autoencoder_done(self) -> bool:
        """Whether there is an autoencoder to train the stages in."""
        return self.start is not None or (self.settings.out / "autoencoder/vae/config.json").is_file()

    def steps_done(self, stage: Stage) -> int:
        """Optimizer steps of a stage up to its newest checkpoint."""
        checkpoints = complete_checkpoints(self.settings.out / stage / "checkpoints")
        if not checkpoints:
            return 0
        return int(json.loads((checkpoints[-1] / PROGRESS).read_text(encoding="utf-8"))["step"])

    def autoencoder_command(self, out: Path, *more: str) -> list[str]:
        """The command of the autoencoder's stage."""
        given = self.settings
        return self._command(
            "recipes/tiny/train_shared_autoencoder.py", given.recipe / "autoencoder.yaml",
            f"--cutouts={given.cutouts}", f"--out={out}", f"--workers={given.workers}", *more,
        )  # fmt: skip

    def stage_command(self, stage: Stage, out: Path, vae: Path, *more: str) -> list[str]:
        """The command of a stage, from random weights in an autoencoder, or from the start weights."""
        given, recipe = self.settings, self.stages[stage]
        weights = [f"--model.vae={vae}"]
        if self.start is not None:
            rate = recipe.optimizer.learning_rate / 2
            weights = [f"--model.base={self.start}", f"--optimizer.learning_rate={rate}"]
        return self._command(
            _SCRIPTS[stage], given.recipe / f"{stage}.yaml", f"--output={out}", f"--data.workers={given.workers}",
            f"--data.composites.folder={given.cutouts}", f"--batch_size={self.batch_size(stage)}", *weights, *more,
        )  # fmt: skip

    def batch_size(self, stage: Stage) -> int:
        """Clips that a process takes at once."""
        recipe = self.stages[stage]
        if self.settings.batch_size is not None:
            return self.settings.batch_size
        return (recipe.global_batch_size or recipe.batch_size) if torch.cuda.is_available() else recipe.batch_size

    def _command(self, script: str, config: Path, *more: str) -> list[str]:
        launch = [sys.executable]
        if self.settings.launch is not None:
            launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(self.settings.launch)]
        return [*launch, str(ROOT / script), f"--config={config}", *more]


def make(maker: Maker) -> bool:
    """Go on with the first stage that is not finished, until all are or the time is over.

    Returns:
        whether all stages are finished.

    Raises:
        InputError: if a stage ends with an error, which it has printed.
    """
    given = maker.settings
    ends = time.monotonic() + 60 * given.minutes if given.minutes else None
    vae = given.out / "autoencoder/vae"
    if not maker.autoencoder_done():
        _run("autoencoder", maker.autoencoder_command(given.out / "autoencoder", *_limit(ends)), given.out)
        if not maker.autoencoder_done():
            return False
    for stage in STAGES:
        steps = maker.stages[stage].steps
        if maker.steps_done(stage) < steps:
            if ends is not None and time.monotonic() > ends:
                return False
            _run(stage, maker.stage_command(stage, given.out / stage, vae, *_limit(ends)), given.out)
        if maker.steps_done(stage) < steps:
            return False
    return True


def _limit(ends: float | None) -> list[str]:
    return [] if ends is None else [f"--max_minutes={max(1e-3, (ends - time.monotonic()) / 60):.4f}"]


def _run(name: str, command: Sequence[str], out: Path) -> None:
    """Run a stage's command, and note how long it took."""
    sys.stdout.write(f"{name}: {' '.join(command)}\n")
    sys.stdout.flush()
    began = time.monotonic()
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    status = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    seconds = round(time.monotonic() - began, 1)
    with (out / "pieces.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"stage": name, "seconds": seconds, "device": device, "status": status}) + "\n")
    if status:
        raise InputError(f"{name}: ended with status {status}, see its output above; the same command goes on")


def bundle(maker: Maker) -> Path | None:
    """Write what both stages have learned so far, with the notices of the pictures; None while one has no export."""
    exported = {stage: maker.settings.out / stage / "model" for stage in STAGES}
    if not all(folder.is_dir() for folder in exported.values()):
        return None
    model, fresh = maker.settings.out / "model", maker.settings.out / "model.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    save_model([load_stage(exported[stage], stage=stage) for stage in STAGES], fresh, dtype="float16")
    shutil.copy(NOTICE, fresh / NOTICE.name)
    shutil.rmtree(model, ignore_errors=True)
    fresh.rename(model)
    return model


def minutes_by_stage(out: Path) -> dict[str, float]:
    """Sum of the pieces' times by stage, as `OUT/pieces.jsonl` has them."""
    total: dict[str, float] = {}
    for line in (out / "pieces.jsonl").read_text(encoding="utf-8").splitlines():
        piece = json.loads(line)
        total[piece["stage"]] = total.get(piece["stage"], 0.0) + piece["seconds"] / 60
    return total


def estimate(maker: Maker) -> dict[str, float]:
    """Hours of each stage on this machine, counted from `MEASURED` steps; the stages' steps accumulate no batches.

    A stage's step of several batches is counted as so many measured steps of one batch.
    """
    given = maker.settings
    work = given.out / "estimate"
    shutil.rmtree(work, ignore_errors=True)
    hours: dict[str, float] = {}
    vae = work / "autoencoder/vae"
    if maker.start is None:
        few = (f"--steps={MEASURED}", "--validation_clips=1", f"--hold_steps={maker.autoencoder.hold_steps}")
        _run("autoencoder, measured", maker.autoencoder_command(work / "autoencoder", *few), given.out)
        piece = json.loads((work / "autoencoder/pieces.jsonl").read_text(encoding="utf-8"))
        hours["autoencoder"] = piece["seconds"] / MEASURED * maker.autoencoder.steps / 3600
    for stage in STAGES:
        recipe = maker.stages[stage]
        few = (
            f"--steps={MEASURED + 1}", "--global_batch_size=null", "--gradient_accumulation_steps=1", "--log_every=1",
            "--validation.every=0", f"--checkpoint_every={MEASURED + 1}",
        )  # fmt: skip
        _run(f"{stage}, measured", maker.stage_command(stage, work / stage, vae, *few), given.out)
        lines = (json.loads(line) for line in (work / stage / "log.jsonl").read_text(encoding="utf-8").splitlines())
        rates = [line["clips_per_second"] for line in lines if "clips_per_second" in line][1:]  # the first one warms up
        clips = recipe.steps * (recipe.global_batch_size or maker.batch_size(stage))
        hours[stage] = clips * sum(1 / rate for rate in rates) / len(rates) / 3600
    shutil.rmtree(work)
    return hours


def main(args: Sequence[str]) -> int:
    """Make the model, or say how long it would take; the exit status."""
    log_to_terminal()
    try:
        maker = Maker(parse_settings(MakeSettings, args, description=__doc__))
        out = maker.settings.out
        if maker.settings.estimate:
            hours = estimate(maker)
            lines = [f"{name}: {value:.2f} hours\n" for name, value in hours.items()]
            sys.stdout.write("".join([*lines, f"in all: {sum(hours.values()):.2f} hours\n"]))
            return 0
        finished = make(maker)
        model = bundle(maker)
    except InputError as error:
        return refuse(error)
    spent = ", ".join(f"{name} {minutes:.1f}" for name, minutes in minutes_by_stage(out).items())
    sys.stdout.write(f"{out}: {'finished' if finished else 'not finished, the same command goes on'}\n")
    sys.stdout.write(f"model so far: {model or 'none'}; minutes: {spent}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
