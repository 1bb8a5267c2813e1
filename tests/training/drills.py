"""Runs in which something goes wrong on purpose: `python -m tests.training.drills DRILL[+DRILL] FOLDER ARGUMENTS...`.

The arguments are the training's own. FOLDER takes what a drill records.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.data.shards import PackedTrack, ShardDataset
from amodal_diffusion.training import checkpoints, trainer
from amodal_diffusion.training.precompute import precompute_main
from amodal_diffusion.training.setup import train_main

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
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


def record_shards(folder: Path) -> None:
    """Write down which samples of shards each process reads: `shards_RANK.txt`, an index a line."""
    load = ShardDataset.load

    def noted(dataset: ShardDataset, index: int) -> PackedTrack:
        with (folder / f"shards_{PartialState().process_index}.txt").open("a") as file:
            file.write(f"{index}\n")
        return load(dataset, index)

    ShardDataset.load = noted  # type: ignore[method-assign]


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


def small_disk(folder: Path) -> None:
    """Run on a disk of its own at `disk`, of `disk_bytes` bytes; `kept` gets what is on it in the end."""
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    disk, size = str(folder / "disk").encode(), (folder / "disk_bytes").read_text()
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"tmpfs", disk, b"tmpfs", 0, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "mount")
    end = trainer.Trainer.fit

    def copied(training: trainer.Trainer) -> Any:
        try:
            return end(training)
        finally:
            shutil.copytree(folder / "disk", folder / "kept")

    trainer.Trainer.fit = copied  # type: ignore[method-assign]


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
    """Say so in the third step, and wait for the test (:func:`wait_for_test`)."""
    step = trainer.Trainer._step

    def slow(training: trainer.Trainer, *arguments: Any) -> Any:
        if training.progress.step == 2:
            wait_for_test(folder)
        return step(training, *arguments)

    trainer.Trainer._step = slow  # type: ignore[method-assign]


def pause(folder: Path) -> None:
    """Let the main process wait for the test at one of its calls of a function, from the first step on.

    `pause_at` says at which, counted from 0; without that file, `calls` says in the end how many there are.
    """
    if os.environ.get("RANK", "0") != "0":  # the processes have not met yet
        return
    place = int((folder / "pause_at").read_text()) if (folder / "pause_at").exists() else None
    fit, calls = trainer.Trainer.fit, 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        if event != "call":
            return
        calls += 1
        if calls - 1 == place:
            sys.setprofile(None)
            wait_for_test(folder)

    def counted(training: trainer.Trainer) -> Any:
        sys.setprofile(count)
        try:
            return fit(training)
        finally:
            sys.setprofile(None)
            (folder / "calls").write_text(str(calls))

    trainer.Trainer.fit = counted  # type: ignore[method-assign]


def wait_for_test(folder: Path) -> None:
    """Meet the test at two pipes with names: it reads from the first, and goes on where the second is written to."""
    rank = PartialState().process_index
    (folder / f"reached_{rank}").write_bytes(b"1")
    (folder / f"go_{rank}").read_bytes()


def make_pipes(folder: Path, *ranks: int) -> None:
    """Make the pipes of these processes."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank in ranks:
        for name in ("reached", "go"):
            os.mkfifo(folder / f"{name}_{rank}")


def wait_for_run(folder: Path, *ranks: int) -> None:
    """In the test: wait until these processes wait."""
    for rank in ranks:
        (folder / f"reached_{rank}").read_bytes()


def let_go(folder: Path, *ranks: int) -> None:
    """In the test: let these processes go on."""
    for rank in ranks:
        (folder / f"go_{rank}").write_bytes(b"1")


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


_ALL = (
    record, record_shards, kill, fill_disk, small_disk, not_finite, damage, linger, pause, share_out,
    share_out_optimizer,
)  # fmt: skip
DRILLS = {entry.__name__: entry for entry in _ALL}


def train_with(drills: str, folder: Path, arguments: Sequence[str]) -> int:
    """Train with drills, their names with "+" between them, or encode ahead ("precompute"); the exit status."""
    torch.set_num_threads(1)
    if drills == "precompute":
        return precompute_main(arguments)
    for name in filter(None, drills.split("+")):
        DRILLS[name](folder)
    return train_main(arguments)


if __name__ == "__main__":
    sys.exit(train_with(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
