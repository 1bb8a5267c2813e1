"""Files of a training run: checked before networks are loaded, and what to do about those that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.types import InputError

DATASET = "kaihuac/diffusion_vas_datasets"
PUBLISHED = {
    "train.json": "diffusion_vas_sailvos_train.json",
    "validation.json": "diffusion_vas_sailvos_val.json",
    "sailvos_complete_objs_as_occluders.json": "sailvos_complete_objs_as_occluders.json",
}
"""Annotation files of SAIL-VOS in that data set, by their names in the shipped settings."""


def check_data_files(data: DataSettings) -> None:
    """Check that annotation files and folders of frames are there.

    Args:
        data: training and validation clips.

    Raises:
        InputError: if one is missing; the message says where the paper's come from and what makes one's own.
    """
    for setting, path in _given(data):
        if not path.exists():
            raise InputError(f"data.{setting}: {path}: no such file or folder; {_remedy(path)}")


def _given(data: DataSettings) -> Iterator[tuple[str, Path]]:
    for setting in ("annotations", "images", "validation_annotations", "validation_images"):
        path = getattr(data, setting)
        if path is not None:
            yield setting, path
    if data.occluders.annotations is not None:
        yield "occluders.annotations", data.occluders.annotations


def _remedy(path: Path) -> str:
    """What a user does about a missing file."""
    if "sailvos" not in str(path).lower():
        return "`amodal-diffusion prepare` makes annotation files of own clips (docs/data.md, section 2)"
    if path.name in PUBLISHED:
        return f"it is {PUBLISHED[path.name]} of the Hugging Face data set {DATASET} (docs/data.md, section 1)"
    if path.suffix == ".json":
        return (
            f"annotation files of SAIL-VOS are in the Hugging Face data set {DATASET}, and `amodal-diffusion prepare` "
            "cuts complete objects out of them (docs/data.md, sections 1 and 2)"
        )
    return "the frames of SAIL-VOS come from its authors, under their license (docs/data.md, section 1)"
