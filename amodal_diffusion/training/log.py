"""Logging of a training run: JSON lines in `log.jsonl`, a tracker such as TensorBoard, and the terminal."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.data.occluders import Occlusion
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.parsing import dump_settings
from amodal_diffusion.training.checkpoints import Progress
from amodal_diffusion.training.run_settings import RunSettings
from amodal_diffusion.types import UInt8Array

logger = logging.getLogger(__name__)


def start_tracker(settings: RunSettings, accelerator: Accelerator) -> None:
    """Start the tracker, such as TensorBoard; all processes must call this together."""
    project = "amodal-diffusion" if settings.tracker == "wandb" else settings.tracker
    accelerator.init_trackers(
        project,
        config=yaml.safe_load(dump_settings(settings)) if settings.tracker == "wandb" else None,
        init_kwargs={"wandb": {"name": settings.output.name, "dir": str(settings.output)}},
    )


def describe_step(batch_size: int, processes: int, batches: int) -> str:
    """Describe how the global batch size of an optimizer step is composed."""
    total = batch_size * processes * batches
    return f"{total} clips a step: {processes} processes x batch_size {batch_size} x {batches} batches"


def occlusion_figures(occlusions: Sequence[Occlusion]) -> dict[str, float]:
    """Range and mean of the occluded shares, and the number of clips that were replaced, by reason."""
    shares = [occlusion.share for occlusion in occlusions]
    return {
        "occlusion_least": min(shares),
        "occlusion_mean": sum(shares) / len(shares),
        "occlusion_largest": max(shares),
        "replaced_already_hidden": sum(occlusion.already_hidden for occlusion in occlusions),
        "replaced_no_occluder": sum(occlusion.no_occluder for occlusion in occlusions),
    }


class RunLog:
    """Writes metrics and events; all processes must call its methods together, and the main process writes.

    Args:
        settings: resolved training settings.
        accelerator: accelerator of this process.
    """

    def __init__(self, settings: RunSettings, accelerator: Accelerator) -> None:
        self.path = settings.output / "log.jsonl"
        self.every = settings.log_every
        self.steps = settings.steps
        self.batch_size = settings.batch_size
        self.accelerator = accelerator
        self._losses: list[Tensor] = []
        self._occlusions: list[Occlusion] = []
        self._since = (time.monotonic(), 0)
        self._first = (time.monotonic(), 0)

    def start(self, progress: Progress, checkpoint: Path | None) -> None:
        """Log the first step, the checkpoint, the number of processes and the clips per step."""
        self._since = (time.monotonic(), progress.clips)
        self._first = (time.monotonic(), progress.step)
        if not self.accelerator.is_main_process:
            return
        self._end_broken_line()
        origin = f"from {checkpoint}" if checkpoint else "from the start"
        processes, batches = self.accelerator.num_processes, self.accelerator.gradient_accumulation_steps
        clips = describe_step(self.batch_size, processes, batches)
        logger.info("step %d of %d, %s, %s", progress.step, self.steps, origin, clips)
        self._write({"event": "start", "step": progress.step, "processes": processes, "batches_per_step": batches})

    def hidden(self, occlusions: Sequence[Occlusion]) -> None:
        """Collect the occlusions of this process's clips for the next line of the log."""
        self._occlusions += occlusions

    def step(self, progress: Progress, *, loss: Tensor | None, norm: Tensor, rate: float) -> None:
        """Record a step; every ``log_every`` steps, write the mean loss over all processes since the last line.

        Args:
            progress: progress after the step.
            loss: loss of this process, float32 scalar; None in all processes if the step was skipped.
            norm: norm of the gradient before clipping.
            rate: learning rate.
        """
        if loss is not None:
            self._losses.append(loss)
        if progress.step % self.every and progress.step != self.steps:
            return
        figures = {"learning_rate": rate}
        if self._losses:
            mean = self.accelerator.reduce(torch.stack(self._losses).mean(), reduction="mean")
            figures = {"loss": float(mean), "gradient_norm": float(norm), **figures}
            self._losses.clear()
        if self._occlusions:
            figures |= occlusion_figures(gather_object(self._occlusions))
            self._occlusions.clear()
        now = time.monotonic()
        then, clips = self._since
        self._since = (now, progress.clips)
        figures["clips_per_second"] = (progress.clips - clips) / max(now - then, 1e-9)
        begun, step = self._first
        figures["minutes_left"] = (self.steps - progress.step) * (now - begun) / max(progress.step - step, 1) / 60
        if self.accelerator.device.type == "cuda":
            figures["gpu_memory_gib"] = torch.cuda.max_memory_allocated(self.accelerator.device) / 2**30
        if self.accelerator.scaler is not None:
            figures["loss_scale"] = self.accelerator.scaler.get_scale()
        for name in ("skipped_steps", "skipped_clips"):
            if getattr(progress, name):
                figures[name] = getattr(progress, name)
        self.figures(progress.step, figures)

    def event(self, progress: Progress, name: str, details: Mapping[str, object]) -> None:
        """Write an event of a step."""
        if not self.accelerator.is_main_process:
            return
        logger.warning("step %d of %d: %s %s", progress.step, self.steps, name, dict(details) or "")
        self._write({"event": name, "step": progress.step, **details})

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Write metrics of a step."""
        if not self.accelerator.is_main_process:
            return
        text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        logger.info("step %d of %d: %s", step, self.steps, text)
        self._write({"step": step, **figures})
        self.accelerator.log({f"{_group(name)}/{name}": value for name, value in figures.items()}, step=step)

    def picture(self, step: int, picture: UInt8Array) -> None:
        """Send an 8-bit RGB image ``[H, W, 3]`` to the trackers."""
        for tracker in self.accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation": picture[None]}, step=step, **layout)

    def _end_broken_line(self) -> None:
        """Add a line break if a killed run left an incomplete last line."""
        if self.path.is_file() and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def _write(self, entry: dict[str, object]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


_GROUPS = {
    "training": ("loss", "gradient_norm", "learning_rate", "skipped_steps", "skipped_clips"),
    "speed": ("clips_per_second", "minutes_left", "gpu_memory_gib"),
    "data": ("occlusion", "replaced"),
}


def _group(name: str) -> str:
    """Group of a metric in the tracker, by how its name begins; what no other group has is of validation."""
    return next((group for group, begin in _GROUPS.items() if name.startswith(begin)), "validation")


REFUSED = 2


def log_to_terminal() -> None:
    """Print log lines with their time; diffusers and transformers report errors alone."""
    quieten_libraries(quiet=False)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("accelerate").setLevel(logging.WARNING)


def refuse(error: InputError | OSError) -> int:
    """Print an error as one line on stderr.

    Returns:
        the program's exit status, 2.
    """
    sys.stderr.write(f"error: {one_line(error)}\n")
    return REFUSED
