"""Files of a training run: checked before networks are loaded, and what to do about those that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amodal_diffusion.data.published import remedy
from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.types import InputError


def check_data_files(data: DataSettings) -> None:
    """Check that annotation files and folders of frames are there.

    Args:
        data: training and validation clips.

    Raises:
        InputError: if one is missing; the message says where the paper's come from and what makes one's own.
    """
    for setting, path in _given(data):
        if not path.exists():
            raise InputError(f"data.{setting}: {path}: no such file or folder; {remedy(path)}")


def _given(data: DataSettings) -> Iterator[tuple[str, Path]]:
    for setting in ("annotations", "images", "validation_annotations", "validation_images"):
        path = getattr(data, setting)
        if path is not None:
            yield setting, path
    if data.occluders.annotations is not None:
        yield "occluders.annotations", data.occluders.annotations
