"""Put the trained stages into one model folder: `python train/bundle.py --out DIR` (see weights/tiny/README.md)."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from amodal_diffusion.config import parse_settings
from amodal_diffusion.models.hub import load_stage, load_vae, save_model


@dataclass(frozen=True)
class BundleSettings:
    """What goes into the folder.

    Attributes:
        segmentation: exported model of stage 1.
        content: exported model of stage 2, with stage 1's image encoder.
        vae: autoencoder of both in place of their own: one that holds the latents of the masks that stage 1 was trained
            on where they are, see ``anchor_weight`` of train/train_vae.py; None where both were trained on one.
        out: folder to write; must not exist.
    """

    segmentation: Path = Path("runs/tiny_amodal_segmentation/model")
    content: Path = Path("runs/tiny_content_completion/model")
    vae: Path | None = None
    out: Path = Path("runs/tiny")


if __name__ == "__main__":
    settings = parse_settings(BundleSettings, sys.argv[1:])
    stages = [
        load_stage(settings.segmentation, stage="amodal_segmentation"),
        load_stage(settings.content, stage="content_completion"),
    ]
    if settings.vae is not None:
        stages = [replace(stage, vae=load_vae(settings.vae)) for stage in stages]
    save_model(stages, settings.out, dtype="float16")
