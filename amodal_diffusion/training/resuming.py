"""Which checkpoint a run goes on from: the newest that is as it was written.

A damaged one is renamed to `STEP.damaged`, so that rotation and later starts do not count it.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from amodal_diffusion.training.manifest import find_damage
from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)

PROGRESS = "progress.json"
DAMAGED = ".damaged"


def complete_checkpoints(folder: Path) -> list[Path]:
    """Folders of the complete checkpoints in a folder, oldest first."""
    return [path for path in _numbered(folder) if (path / PROGRESS).is_file()]


def find_checkpoint(run: Path, resume: str) -> Path | None:
    """Which checkpoint a run goes on from; one process calls this.

    Args:
        run: its folder.
        resume: ``auto``, ``none``, or a checkpoint's folder.

    Returns:
        None for a fresh start. With ``auto`` the newest that is as it was written; damaged ones on the way are warned
        of and renamed.

    Raises:
        InputError: if there is no such checkpoint, all are damaged, or a start would mix with an earlier run.
    """
    folder = run / "checkpoints"
    if resume == "auto":
        return _newest_sound(folder)
    if resume != "none" and not Path(resume).is_dir():
        raise InputError(f"resume: expected auto, none or a checkpoint's folder, got {resume}, which is no folder")
    if complete_checkpoints(folder) and (resume == "none" or Path(resume).resolve().parent != folder.resolve()):
        raise InputError(
            f"output: {run} holds checkpoints of an earlier run; give another folder, or --resume auto to go on"
        )
    if resume == "none":
        return None
    damage = find_damage(Path(resume))
    if damage:
        raise InputError(f"resume: {resume} is damaged, {damage}; give another checkpoint, or auto")
    return Path(resume)


def _numbered(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def _newest_sound(folder: Path) -> Path | None:
    damages: dict[Path, str] = {}
    for path in reversed(_numbered(folder)):
        damage = find_damage(path) if (path / PROGRESS).is_file() else f"{PROGRESS} is missing"
        if damage is None:
            for damaged, reason in damages.items():
                aside = damaged.with_name(damaged.name + DAMAGED)
                logger.warning("%s is damaged, %s: renamed to %s; going on from %s", damaged, reason, aside.name, path)
                shutil.rmtree(aside, ignore_errors=True)
                damaged.rename(aside)
            return path
        damages[path] = damage
    if damages:
        path, damage = next(iter(damages.items()))
        raise InputError(
            f"resume: none of the {len(damages)} checkpoints in {folder} is as it was written (of {path.name} "
            f"{damage}); give another output folder to begin anew"
        )
    return None
