"""Files of a training run: checked before networks are loaded, and what to do about those that are missing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.data.shards import ShardHeader, read_header
from amodal_diffusion.training.data_settings import DataSettings

logger = logging.getLogger(__name__)


def check_data_files(data: DataSettings, stage: Stage) -> None:
    """Check that annotation files, folders of frames and shards are there, and that shards have what a run needs.

    A notice says so where training and validation have the same clips.

    Args:
        data: training and validation clips.
        stage: that is trained.

    Raises:
        InputError: if one is missing; the message says where the paper's come from and what makes one's own.
    """
    data.check_files()
    _notice_same_clips(data)
    for setting, location in _given_shards(data):
        try:
            _check_header(read_header(location), data, stage)
        except InputError as error:
            raise InputError(f"data.{setting}: {error}") from error


def _check_header(header: ShardHeader, data: DataSettings, stage: Stage) -> None:
    if header.source == "tao-amodal":
        raise InputError("expected shards with amodal masks, got tracks of TAO-Amodal, which have boxes alone")
    if header.shortest < data.frames:
        raise InputError(
            f"expected samples of at least {data.frames} frames, got one of {header.shortest}; write the shards with "
            f"--frames {data.frames}, or set data.frames to {header.shortest}"
        )
    painted = stage == "content_completion" and data.plain_share > 0.0
    if painted and not header.whole and data.occluders.annotations is None:
        raise InputError(
            "its samples lack the colors of whole objects, which stage 2 learns; give data.occluders.annotations to "
            "hide complete objects behind tracks of that file"
        )


def _notice_same_clips(data: DataSettings) -> None:
    """Say where validation measures what training has seen."""
    source = data.validation_source
    if source is None or os.environ.get("RANK", "0") != "0":
        return
    kind = "shards" if source.annotations is None else "annotations"
    checked = _location(getattr(source, kind))
    if checked in [_location(getattr(trained, kind)) for trained in data.sources]:
        logger.warning(
            "data.validation_%s: %s is also trained on, so validation does not measure how the model does on other "
            "clips; give clips that training does not have", kind, getattr(source, kind),
        )  # fmt: skip


def _location(given: Path | str | None) -> str:
    """A path with its links followed, or a URL as it is."""
    return str(given) if given is None or "://" in str(given) else str(Path(given).resolve())


def _given_shards(data: DataSettings) -> Iterator[tuple[str, str]]:
    for setting in ("shards", "validation_shards"):
        location = getattr(data, setting)
        if location is not None:
            yield setting, location
    for source in data.mixture:
        if source.shards is not None:
            yield "mixture.shards", source.shards


def resized_as_tracks(data: DataSettings) -> bool:
    """Whether stretched frames are resized without antialiasing: those of annotation files, and of shards of these."""
    return any(source.shards is None or read_header(source.shards).as_tracks for source in data.sources)
