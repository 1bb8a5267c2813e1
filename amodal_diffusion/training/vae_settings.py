"""The settings of a run of the small video autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amodal_diffusion.types import InputError


@dataclass(frozen=True)
class VaeSettings:
    """Settings of one run.

    Attributes:
        out: folder of the run; the autoencoder is exported to its ``vae/``.
        base: autoencoder to go on from, with its widths; None starts from random weights.
        block_out_channels: widths, one a level; each level but the last halves the frame.
        layers_per_block: residual blocks a level.
        clips: scenes generated for training, held in memory.
        validation_clips: scenes of the validation split that are measured at the end.
        frames: neighbouring frames of a clip seen together.
        height: pixels of a scene, or of a close-up.
        width: pixels of a scene, or of a close-up.
        zoom: look at close-ups of the object, as `data.zoom` of the stages does; None at whole frames.
        crop: height and width of the training crops; the last tenth of the steps uses whole frames.
        shares: how often each kind of picture is drawn: mask, depth, whole object, visible part, frame.
        batch_size: clips a step and process.
        steps: optimizer steps.
        learning_rate: peak, reached after 2 % of the steps; falls to zero as a cosine.
        kl_weight: weight of the divergence from the unit normal.
        swatch_share: how often a batch's clip is a plain pattern of strong colours instead, see :func:`swatch`.
        colour_weight: weight of the error of each channel's difference from grey.
        permute_channels: swap red, green and blue at random, so that few scenes show many colours.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        save_every: steps between checkpoints, from which the same command goes on.
        seed: of weights, scenes and crops.
    """

    out: Path = Path("runs/tiny_vae")
    base: Path | None = None
    block_out_channels: tuple[int, ...] = (32, 64, 96)
    layers_per_block: int = 1
    clips: int = 2000
    validation_clips: int = 50
    frames: int = 4
    height: int = 64
    width: int = 128
    zoom: float | None = None
    crop: tuple[int, int] = (32, 64)
    shares: tuple[float, float, float, float, float] = (0.25, 0.1, 0.3, 0.25, 0.1)
    batch_size: int = 4
    steps: int = 8000
    learning_rate: float = 1e-3
    kl_weight: float = 1e-6
    colour_weight: float = 0.0
    swatch_share: float = 0.0
    permute_channels: bool = False
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what the code below relies on."""
        factor = 2 ** (len(self.block_out_channels) - 1)
        if any(side % factor for side in (*self.crop, self.height, self.width)):
            raise InputError(f"crop, height, width: expected multiples of {factor}, the autoencoder's factor")
        if self.crop[0] > self.height or self.crop[1] > self.width:
            raise InputError(f"crop: expected at most {self.height}x{self.width}, got {self.crop[0]}x{self.crop[1]}")
