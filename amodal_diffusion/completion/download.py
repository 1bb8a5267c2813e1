"""Implementation of `download`: put a model of the hub into the local cache, or into a folder for `--model`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.options import option

if TYPE_CHECKING:
    from amodal_diffusion.models.downloads import Wanted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DownloadRequest:
    """Download.

    Attributes:
        name: diffusion-vas, or Hugging Face Hub ID; NAME@REVISION names a branch, a tag or a commit
        out: folder that --model takes; if left out, the files go into the local cache of the Hugging Face Hub
        depth: depth network to download too: auto (the one of diffusion-vas), none, small, large, or Hugging Face Hub
            ID; it goes into the subfolder depth
        stage: stage of a checkpoint in the released layout, if its ID does not tell
        yes: download without asking
        quiet: show no progress bars
    """

    name: str = option(metavar="NAME", positional=True)
    out: Path | None = option(None, metavar="DIR", read=Path)
    depth: str = option("auto", metavar="auto|none|NAME")
    stage: Stage | None = option(None, choices=STAGES)
    yes: bool = option(False)
    quiet: bool = option(False, short="-q")


def download(request: DownloadRequest) -> list[Path]:
    """Download a model, its depth network too, after one question.

    Args:
        request: the options of `download`.

    Returns:
        ``out``, or the folders in the local cache.

    Raises:
        InputError: if the name is none of the hub's, a folder holds something else, or the files cannot or may not be
            downloaded.
    """
    quieten_libraries(quiet=request.quiet)
    from amodal_diffusion.models.downloads import fetch
    from amodal_diffusion.models.hub import DEPTH, released_stage

    wanted = _wanted(request)
    if request.out is not None:
        for place in wanted:
            _check_folder(request.out if place == "." else request.out / place)
        wanted = {place: replace(one, folder=request.out / place) for place, one in wanted.items()}
    found = fetch(wanted.values(), yes=request.yes)
    if request.out is None:
        return [found[one] for one in wanted.values()]
    for place, one in wanted.items():
        if place != DEPTH:
            _describe(found[one], released_stage(one.hub_id.repository) or request.stage)
    return [request.out]


def _wanted(request: DownloadRequest) -> dict[str, Wanted]:
    """The repositories, by their place in the folder."""
    from amodal_diffusion.models.hub import DEPTH, find_released, locate_depth, locate_model, say_depth_license

    released = find_released(request.name)
    stages: tuple[Stage | None, ...] = STAGES if released is not None else (None,)
    places: dict[str, Path | Wanted] = {stage or ".": locate_model(request.name, stage=stage) for stage in stages}
    depth = request.depth
    if depth == "auto":
        depth = "none" if released is None else released.depth_model
    if depth != "none":
        say_depth_license(depth)
        places[DEPTH] = locate_depth(depth)
    wanted: dict[str, Wanted] = {}
    for place, one in places.items():
        if isinstance(one, Path):
            raise InputError(f"{'depth' if place == DEPTH else 'name'}: {one} is a folder here; nothing to download")
        known = released is not None or place == DEPTH
        wanted[place] = one if known else replace(one, suffixes=(".txt",))  # which tokenizers of segmenters need
    return wanted


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything that was not downloaded into it."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ".cache" / "huggingface").is_dir():
        raise InputError(f"out: {folder}: not empty, and not from an earlier download; choose another folder")


def _describe(folder: Path, stage: Stage | None) -> None:
    """Write ``checkpoint.json`` beside files in the released layout, which bring none."""
    from amodal_diffusion.models.checkpoint import SETTINGS_FILE, write_settings
    from amodal_diffusion.models.hub import has_released_layout, settings_of_released

    if (folder / SETTINGS_FILE).is_file() or not (folder / "unet").is_dir() or not has_released_layout(folder):
        return
    if stage is None:
        logger.warning(
            "%s: in the released layout, which does not tell its stage; the same command with --stage writes it down",
            folder,
        )
        return
    write_settings(settings_of_released(stage), folder)
