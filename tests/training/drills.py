"""Runs in which something goes wrong on purpose: `python -m tests.training.drills DRILL[+DRILL] FOLDER ARGUMENTS...`.

The arguments are the training's own. FOLDER takes what a drill records.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.training import checkpoints, trainer
from amodal_diffusion.training.setup import train_main

BAD_STEPS = (2, 4, 5)


def record(folder: Path) -> None:
    """Write down which clips of each split each process makes: `SPLIT_RANK.txt`, an index a line.

    `wrapped_RANK.txt` has the number of networks that DistributedDataParallel still holds when the processes part.
    """
    make, end = SceneDataset.__getitem__, Accelerator.end_training

    def noted(dataset: SceneDataset, index: int) -> AmodalSample:
        with (folder / f"{dataset.series.split}_{PartialState().process_index}.txt").open("a") as file:
            file.write(f"{index}\n")
        return make(dataset, index)

    def ended(accelerator: Accelerator) -> None:
        left = sum(isinstance(entry, DistributedDataParallel) for entry in gc.get_objects())
        (folder / f"wrapped_{accelerator.process_index}.txt").write_text(str(left))
        end(accelerator)

    SceneDataset.__getitem__ = noted  # type: ignore[method-assign]
    Accelerator.end_training = ended


def kill(folder: Path) -> None:
    """Die of SIGKILL in the middle of writing the second checkpoint, once: `killed` says that it happened."""
    write = checkpoints.write_digests

    def die(partial: Path) -> None:
        if partial.name.startswith("00000002") and not (folder / "killed").exists():
            (folder / "killed").touch()
            half = partial / "unet.safetensors"
            os.truncate(half, half.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        write(partial)

    checkpoints.write_digests = die


def fill_disk(_: Path) -> None:
    """Let the last process alone have no room for the second checkpoint; the system refuses its files."""
    write = checkpoints.Checkpoints.save

    def refused(states: checkpoints.Checkpoints, progress: checkpoints.Progress) -> Path:
        if progress.step == 2 and PartialState().is_last_process:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
        return write(states, progress)

    checkpoints.Checkpoints.save = refused  # type: ignore[method-assign]


def not_finite(_: Path) -> None:
    """Let the last process alone compute no number in the steps :data:`BAD_STEPS`, counted from 1."""
    compute: Callable[..., Tensor] = trainer.training_loss
    calls = 0

    def spoiled(*arguments: Any, **settings: Any) -> Tensor:
        nonlocal calls
        calls += 1
        state = PartialState()
        loss = compute(*arguments, **settings)
        return loss * float("nan") if calls in BAD_STEPS and state.is_last_process else loss

    trainer.training_loss = spoiled


def damage(_: Path) -> None:
    """Let one clip be unreadable."""
    make = SceneDataset.__getitem__

    def refused(dataset: SceneDataset, index: int) -> AmodalSample:
        if dataset.series.split == "train" and index == 3:
            raise OSError(f"cannot identify image file {dataset.name(index)}")
        return make(dataset, index)

    SceneDataset.__getitem__ = refused  # type: ignore[method-assign]


def linger(folder: Path) -> None:
    """Wait in the third step until `go` is there; `third_RANK` says that a process has come so far."""
    step = trainer.Trainer._step

    def slow(training: trainer.Trainer, *arguments: Any) -> Any:
        if training.progress.step == 2:
            (folder / f"third_{PartialState().process_index}").touch()
            while not (folder / "go").exists():
                signal.sigtimedwait([], 0.05)
        return step(training, *arguments)

    trainer.Trainer._step = slow  # type: ignore[method-assign]


def share_out(_: Path) -> None:
    """Share out the network (FSDP) on the CPU; Accelerate does so for GPUs alone, and is told that these are some."""
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def share_out_optimizer(_: Path) -> None:
    """Share out gradients and optimizer (DeepSpeed) on the CPU, likewise."""
    import deepspeed

    PartialState(cpu=True)
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    PartialState._shared_state["_cpu"] = False
    torch.accelerator.is_available = lambda: True


DRILLS = {
    entry.__name__: entry
    for entry in (record, kill, fill_disk, not_finite, damage, linger, share_out, share_out_optimizer)
}

if __name__ == "__main__":
    for name in sys.argv[1].split("+"):
        DRILLS[name](Path(sys.argv[2]))
    sys.exit(train_main(sys.argv[3:]))
