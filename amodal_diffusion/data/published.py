"""Published annotation files of the paper, and what to do about files that are missing."""

from __future__ import annotations

from pathlib import Path

DATASET = "kaihuac/diffusion_vas_datasets"
PUBLISHED = {
    "train.json": "diffusion_vas_sailvos_train.json",
    "validation.json": "diffusion_vas_sailvos_val.json",
    "sailvos_complete_objs_as_occluders.json": "sailvos_complete_objs_as_occluders.json",
}
"""Annotation files of SAIL-VOS in that data set, by their names in the shipped settings."""
COMPLETE = "complete_objects.json"
"""Complete objects, which `prepare` picks out of an annotation file."""


def remedy(path: Path) -> str:
    """What a user does about a missing file or folder of SAIL-VOS, of TAO-Amodal, or of their own."""
    if "tao" in str(path).lower() and path.suffix == ".json":
        return f"the paper's files of TAO-Amodal are in the Hugging Face data set {DATASET} (docs/data.md, section 1)"
    if "sailvos" not in str(path).lower():
        return "`amodal-diffusion prepare` makes annotation files of own clips (docs/data.md, section 2)"
    if path.name in PUBLISHED:
        return f"it is {PUBLISHED[path.name]} of the Hugging Face data set {DATASET} (docs/data.md, section 1)"
    if path.name == COMPLETE:
        return "`amodal-diffusion prepare data/sailvos/validation.json` makes it (docs/data.md, section 1)"
    if path.suffix == ".json":
        return (
            f"annotation files of SAIL-VOS are in the Hugging Face data set {DATASET}, and `amodal-diffusion prepare` "
            "cuts complete objects out of them (docs/data.md, sections 1 and 2)"
        )
    return "the frames of SAIL-VOS come from its authors, under their license (docs/data.md, section 1)"
