"""Put the trained stages into one model folder: `python recipes/tiny/bundle.py --out DIR`."""

import sys
from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.config import parse_settings
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.saving import save_model


@dataclass(frozen=True)
class BundleSettings:
    """What goes into the folder.

    Attributes:
        segmentation: exported model of stage 1.
        content: exported model of stage 2.
        out: folder to write; must not exist.
    """

    segmentation: Path = Path("runs/tiny_amodal_segmentation/model")
    content: Path = Path("runs/tiny_content_completion/model")
    out: Path = Path("runs/tiny")


if __name__ == "__main__":
    settings = parse_settings(BundleSettings, sys.argv[1:])
    stages = [
        load_stage(settings.segmentation, stage="amodal_segmentation"),
        load_stage(settings.content, stage="content_completion"),
    ]
    save_model(stages, settings.out, dtype="float16")
