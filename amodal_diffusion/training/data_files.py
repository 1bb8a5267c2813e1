"""Files of a training run: checked before networks are loaded, and what to do about those that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amodal_diffusion.data.published import remedy
from amodal_diffusion.data.shards import ShardHeader, read_header
from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.types import InputError, Stage


def check_data_files(data: DataSettings, stage: Stage) -> None:
    """Check that annotation files, folders of frames and shards are there, and that shards have what a run needs.

    Args:
        data: training and validation clips.
        stage: that is trained.

    Raises:
        InputError: if one is missing; the message says where the paper's come from and what makes one's own.
    """
    for setting, path in _given_paths(data):
        if not path.exists():
            raise InputError(f"data.{setting}: {path}: no such file or folder; {remedy(path)}")
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


def _given_paths(data: DataSettings) -> Iterator[tuple[str, Path]]:
    for setting in ("annotations", "images", "validation_annotations", "validation_images"):
        path = getattr(data, setting)
        if path is not None:
            yield setting, path
    for source in data.mixture:
        for setting in ("annotations", "images"):
            path = getattr(source, setting)
            if path is not None:
                yield f"mixture.{setting}", path
    if data.occluders.annotations is not None:
        yield "occluders.annotations", data.occluders.annotations


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
