"""Programs of training that get the same processor minutes: each of a method's parts is planned from its own speed.

The learning rate falls to zero at the last step, so the number of steps must be known before the minutes are over. A
program therefore runs in pieces, each going on from the checkpoint of the one before: a few steps, which tell what a
start costs, some more, which tell the speed, about half of what is left, and the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.training.checkpoints import PROGRESS, complete_checkpoints

ROOT = Path(__file__).resolve().parents[1]
FIRST, PROBE = 2, 40
"""Steps, or clips, of the first piece and of the second."""


@dataclass(frozen=True)
class Part:
    """One program of a method's training.

    Attributes:
        name: of the part, and of its folder in the method's.
        script: in ``train/``.
        recipe: in ``recipes/``.
        share: of the method's minutes.
        total: setting that says how much there is to do: optimizer steps, or clips to encode.
        options: by dotted name; ``{folder}`` is the method's folder, ``{PART}`` the total of an earlier part.
    """

    name: str
    script: str
    recipe: str
    share: float = 1.0
    total: str = "loop.steps"
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether it takes optimizer steps, from checkpoint to checkpoint."""
        return self.total.endswith("steps")

    @property
    def loop(self) -> str:
        """Prefix of the settings of the loop."""
        return "loop." if self.total.startswith("loop.") else ""


@dataclass
class State:
    """How far a part is, kept in its JSON file.

    Attributes:
        budget: seconds of a processor, or None with a number of steps.
        steps: to take whatever they cost, or None.
        seed: of the program.
        pieces: steps, or clips, done and seconds of a processor spent after each piece, from the start.
        total: steps of the last piece, or None before it is planned.
        finished: whether the last piece ended.
        operations: of one step, counted after training.
    """

    budget: float | None
    steps: int | None
    seed: int
    pieces: list[tuple[int, float]] = field(default_factory=list)
    total: int | None = None
    finished: bool = False
    operations: float | None = None

    @property
    def done(self) -> int:
        """Steps, or clips, done."""
        return self.pieces[-1][0] if self.pieces else 0

    @property
    def spent(self) -> float:
        """Seconds of a processor."""
        return self.pieces[-1][1] if self.pieces else 0.0

    @property
    def rate(self) -> float:
        """Seconds a step without those of starting; needs two pieces."""
        start = self.pieces[0][1]
        return max(self.spent - len(self.pieces) * start, 1e-3) / max(self.done - FIRST, 1)


def plan(state: State) -> tuple[int, float | None, bool]:
    """The next piece: its total, the minutes after which it ends earlier, and whether it is the last."""
    if state.budget is None:
        return state.steps or 1, None, True
    if not state.pieces:
        return FIRST, None, False
    if len(state.pieces) == 1:
        return FIRST + PROBE, None, False
    left = state.budget - state.spent - state.pieces[0][1]
    total = state.done + max(0, round(left / state.rate))
    # A program spends at most a second of the processor in a second, so that this is at most half of what is left.
    return (total, left / 2 / 60, False) if len(state.pieces) == 2 and left > 0 else (total, None, True)


def train_part(part: Part, folder: Path, state: State, totals: Mapping[str, int]) -> State:
    """Train a part to its end, from where it stopped.

    Args:
        part: of the method.
        folder: of the method.
        state: wanted minutes, steps and seed; what the folder has of the part goes on.
        totals: of the method's earlier parts, by name.

    Raises:
        InputError: if the folder holds a run with other minutes, steps or seed, or the program fails.
    """
    path = folder / f"{part.name}.json"
    kept = read_state(path)
    if kept is not None:
        wanted = (state.budget, state.steps, state.seed)
        if (kept.budget, kept.steps, kept.seed) != wanted:
            raise InputError(f"out: {folder} was trained with other --minutes, --steps or --seed; give another folder")
        state = kept
    if not state.finished:
        _charge_killed_piece(part, folder, state)
    while not state.finished:
        state.total, minutes, last = plan(state)
        options = {part.total: str(state.total), **run_options(part, folder, state, totals)}
        if minutes is not None and part.trains:
            options[f"{part.loop}max_minutes"] = f"{minutes:.4f}"
        command = [sys.executable, str(ROOT / "train" / part.script), "--config", str(ROOT / "recipes" / part.recipe)]
        command += [f"--{name}={value}" for name, value in options.items()]
        print(f"{folder.name}, {part.name}: {' '.join(command)}", flush=True)
        status = _run(command, part, folder, state)
        if status:
            raise InputError(f"{part.name}: {part.script} ended with status {status}; the same command goes on")
        state.finished = last or (not part.trains and minutes is not None)
        _write(path, state)
    return state


def run_options(part: Part, folder: Path, state: State, totals: Mapping[str, int]) -> dict[str, str]:
    """Options of a part's program beside the total."""
    names = {"folder": folder, **totals}
    return {
        f"{part.loop}output": str(folder / part.name),
        f"{part.loop}checkpoint_every": "100",
        f"{part.loop}keep_checkpoints": "1",
        f"{part.loop}tracker": "none",
        f"{part.loop}cpu": "true",
        f"{part.loop}seed": str(state.seed),
        **{name: value.format(**names) for name, value in part.options.items()},
    }


def read_state(path: Path) -> State | None:
    """What is kept of a part; None without a file."""
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return State(**{**found, "pieces": [(int(done), float(spent)) for done, spent in found["pieces"]]})


def note_operations(path: Path, operations: float) -> None:
    """Keep the operations of one step of a part."""
    state = read_state(path)
    if state is not None:
        state.operations = operations
        _write(path, state)


def _write(path: Path, state: State) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(state), indent=1) + "\n")


def _charge_killed_piece(part: Part, folder: Path, state: State) -> None:
    """Count what checkpoints hold beyond the pieces, after a kill that left no time to note it, at the known speed."""
    done = _steps_done(folder / part.name) if part.trains else 0
    if done > state.done and len(state.pieces) > 1:
        state.pieces.append((done, state.spent + (done - state.done) * state.rate))


def _steps_done(run: Path) -> int:
    """Optimizer steps up to the newest checkpoint."""
    checkpoints = complete_checkpoints(run / "checkpoints")
    return int(json.loads((checkpoints[-1] / PROGRESS).read_text(encoding="utf-8"))["step"]) if checkpoints else 0


def _run(command: list[str], part: Part, folder: Path, state: State) -> int:
    """Run a piece on one thread and note it, also when this program is asked to end; the exit status."""
    search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / f"{part.name}.log").open("a", encoding="utf-8") as log,
        # A session of its own, so that Ctrl-C reaches this program alone.
        subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True) as child,
    ):
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.terminate()  # the program then writes a checkpoint
            _, status, usage = os.wait4(child.pid, 0)
            raise
        finally:
            child.returncode = os.waitstatus_to_exitcode(status)
            ended = child.returncode == 0
            done = _steps_done(folder / part.name) if part.trains else (state.total or 0) * ended
            if ended or done > state.done:  # what left no trace is in no model, and is not charged
                state.pieces.append((max(done, state.done), state.spent + usage.ru_utime + usage.ru_stime))
                _write(folder / f"{part.name}.json", state)
    return child.returncode
