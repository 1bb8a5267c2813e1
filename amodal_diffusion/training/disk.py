"""Say what a work will take of the disk, before it starts."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)


def announce(folder: Path, *, clips: int, clip_bytes: int, there: int) -> None:
    """Log what a folder of encoded clips will take.

    Args:
        folder: need not exist.
        clips: number of clips.
        clip_bytes: bytes of a clip, at most.
        there: bytes that the folder already has.

    Raises:
        InputError: if the disk has less room than could still come.
    """
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    total, free = clips * clip_bytes, shutil.disk_usage(place).free
    logger.info(
        "%s: %d clips of at most %s, %s in all; %s are there, %s are free",
        folder, clips, _amount(clip_bytes), _amount(total), _amount(there), _amount(free),
    )  # fmt: skip
    if total - there > free:
        raise InputError(
            f"out: {folder} may need {_amount(total - there)} more, {_amount(free)} are free; name a folder on another "
            "disk, or encode the first clips only with --count N"
        )


def _amount(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"
