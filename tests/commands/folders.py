"""Clips for `complete`, what lies in its folders, and runs of it that end too early."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.io.images import read_integers, write_mask_png
from tests.media import Bool, UInt8, moving_disc, write_frames, write_masks

BAR = np.s_[:, :, 18:22]


def contents(folder: Path) -> dict[str, object]:
    """All files; of those that tell times, the rest."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_dir() or path.name == "manifest.json":
            continue
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.suffix == ".json":
            values = json.loads(path.read_text())
            listed = values.get("objects", {}) if isinstance(values, dict) else {}
            for entry in (values, *listed.values()):
                entry.pop("seconds", None)
                entry.pop("finished", None)
            found[str(path.relative_to(folder))] = values
    return found


def pictures(folder: Path) -> UInt8:
    """All pictures of a folder in order, uint8 ``[F, H, W]`` or ``[F, H, W, C]``."""
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])


def amodal_masks(out: Path, name: str) -> Bool:
    """Masks of an object of a result, bool ``[F, H, W]``."""
    files = sorted((out / "objects" / name / "amodal_masks").iterdir())
    return np.stack([read_integers(file).values > 0 for file in files])


def discs_behind_a_bar(folder: Path, model: Path, frames: int, shifts: dict[str, int]) -> list[str]:
    """Write a clip of 24 x 40 pixels with depth; the arguments of `complete` for it.

    Args:
        folder: of the clip.
        model: of the command.
        frames: of the clip.
        shifts: columns by which each object's disc lies right of the one that the frames show.
    """
    rgb, disc = moving_disc(frames, 24, 40)
    depth = np.where(disc, 0.5, 0.0).astype(np.float32)
    depth[BAR] = 1.0
    np.save(folder / "depth.npy", depth)
    for name, shift in shifts.items():
        mask = np.roll(disc, shift, axis=2)
        mask[BAR] = False
        write_masks(folder / "masks" / name, mask)
    given = {"masks": folder / "masks", "model": model, "device": "cpu", "depth": folder / "depth.npy"}
    return [str(write_frames(folder / "frames", rgb)), *(f"--{name}={value}" for name, value in given.items())]


def fail_at(name: str, frame: int, error: BaseException) -> Callable[[Path, Bool], None]:
    """In place of `write_mask_png`: half a file and an error at one frame of one object."""

    def write(path: Path, mask: Bool) -> None:
        if path.parts[-3:] == (name, "amodal_masks", f"{frame:05d}.png"):
            path.write_bytes(b"half")
            raise error
        write_mask_png(path, mask)

    return write


def ended_by_a_signal(prepare: Callable[[], None], arguments: Sequence[str | Path]) -> int:
    """Run the command in a process that has all libraries loaded; the signal that ends it, 0 if none does.

    Args:
        prepare: called in that process before the command, such as to have it killed somewhere.
        arguments: of the command.
    """

    def work() -> None:
        prepare()
        main([str(argument) for argument in arguments])

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return max(0, -(process.exitcode or 0))


def kill_at(module: object, function: str, *path: str) -> Callable[[], None]:
    """For :func:`ended_by_a_signal`: a kill where a function is called with a path that ends like this."""

    def prepare() -> None:
        work = getattr(module, function)

        def die(file: Path, *arguments: object) -> object:
            if file.parts[-len(path) :] == path:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(file, *arguments)

        setattr(module, function, die)

    return prepare
