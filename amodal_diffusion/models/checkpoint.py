"""What a checkpoint says of itself: its stage, its default sampling settings, its depth network (`checkpoint.json`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from amodal_diffusion.models.weights import read_json
from amodal_diffusion.types import STAGES, InputError, Stage

SETTINGS_FILE = "checkpoint.json"
FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True)
class SamplingDefaults:
    """How a checkpoint is sampled unless the caller says otherwise; the values here are the paper's (section 5).

    Attributes:
        num_inference_steps: denoising steps.
        guidance_scale: weight of classifier-free guidance; 1 is without.
        noise_aug_strength: standard deviation of the noise added to the condition pixels.
        height: pixels the model works at.
        width: pixels the model works at.
        num_frames: frames of a window.
        fps: frame rate the model is told, whatever the clip's own.
        motion_bucket_id: amount of motion the model is told.
        decode_chunk_size: frames the VAE decodes together.
        zoom: size of the part of a frame that the model looks at, over that of the object's largest visible extent;
            None looks at whole frames, letterboxed, as the paper does.
        mask_threshold: stage 1's mask is where the mean of RGB, 0 to 1, is above this; beside the visible part, above
            this share of what the visible part leaves free of a scaled pixel.
        other_frames: whether stage 1's visible mask has in grey what other frames of the window show of the object, see
            :func:`~amodal_diffusion.video.tracking.merging.show_other_frames`.
        copies: whether stage 2 copies what other frames of the window show of the hidden part, as far as that can be
            relied on, see :class:`~amodal_diffusion.pipelines.copies.Copies`.
        painted_share: what stage 2's painting counts, in [0, 1], where copies are made and none is at hand, beside the
            mean of the known colours nearby; a network that paints worse than that mean has 0.
    """

    num_inference_steps: int = 25
    guidance_scale: float = 1.5
    noise_aug_strength: float = 0.02
    height: int = 256
    width: int = 512
    num_frames: int = 25
    fps: int = 8
    motion_bucket_id: int = 127
    decode_chunk_size: int = 8
    zoom: float | None = None
    mask_threshold: float = 200 / 255
    other_frames: bool = False
    copies: bool = False
    painted_share: float = 1.0


@dataclass(frozen=True)
class CheckpointSettings:
    """Content of ``checkpoint.json``.

    Attributes:
        stage: which of the two stages the UNet was trained for.
        sampling: the default sampling settings.
        depth_model: name or folder of the Depth Anything network whose depth the UNet was trained on, if any.
    """

    stage: Stage
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    depth_model: str | None = None


def write_settings(settings: CheckpointSettings, folder: Path) -> None:
    """Write ``checkpoint.json`` into a folder."""
    text = json.dumps({"format": FORMAT, **asdict(settings)}, indent=2)
    (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")


def read_settings(folder: Path) -> CheckpointSettings:
    """Read ``checkpoint.json`` from a folder.

    Raises:
        InputError: if it is missing, of a newer format, or has keys that this version does not know.
    """
    path = folder / SETTINGS_FILE
    values = read_json(path)
    version = values.pop("format", None)
    if version != FORMAT:
        raise InputError(f"{path}: format {version}, this version of the package reads {FORMAT}; upgrade it")
    if values.get("stage") not in STAGES:
        raise InputError(f"{path}: stage: expected one of {', '.join(STAGES)}, got {values.get('stage')!r}")
    sampling = values.pop("sampling", {})
    if not isinstance(sampling, dict):
        raise InputError(f"{path}: sampling: expected an object, got {type(sampling).__name__}")
    values["sampling"] = _fill(SamplingDefaults, sampling, path)
    return _fill(CheckpointSettings, values, path)


def _fill(cls: type[T], values: dict[str, Any], path: Path) -> T:
    known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(values.keys() - known)
    if unknown:
        raise InputError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return cls(**values)
