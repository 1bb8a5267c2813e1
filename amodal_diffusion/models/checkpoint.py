"""What a checkpoint says of itself (`checkpoint.json`): stage, sampling, presets, depth network."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import MASK_FILTERS, BeyondPaper, Preset, SamplingConfig
from amodal_diffusion.format_1 import renamed_of_format_1, sampling_of_format_1
from amodal_diffusion.models.weights import read_json

SETTINGS_FILE = "checkpoint.json"
FORMAT = 2
PRESETS: tuple[Preset, ...] = get_args(Preset)
OWN_PRESETS = ("fast", "default")
T = TypeVar("T")

PAPER: dict[str, Any] = {
    "num_inference_steps": 25,
    "guidance_scale": 1.5,
    "guidance_interval": None,
    "scheduler": "euler",
    "sigma_min": None,
    "sigma_max": None,
    "noise_aug_strength": 0.02,
    "conditioning": "released",
    "mask_threshold": 200 / 255,
    "samples": 1,
    "decode_chunk_size": 8,
    "mask_propagation": False,
    "expected_iou_weight": None,
    "mask_filters": (),
    "skip_unoccluded": False,
    "tta": 1,
    "color_propagation": False,
    "seam_blending": False,
    "shrink_mask": 0,
}
"""The paper's inference (section 5). Geometry, window and what the network was trained with stay the checkpoint's."""

_CORRECTED: dict[str, Any] = {"conditioning": "corrected", "scheduler": "dpmpp", "mask_filters": MASK_FILTERS}
FEW_STEPS: dict[str, dict[str, Any]] = {
    "fast": {**_CORRECTED, "num_inference_steps": 4, "guidance_scale": 1.0},
    "default": {
        **_CORRECTED,
        "num_inference_steps": 8,
        "guidance_scale": 1.5,
        "guidance_interval": (1.0, 100.0),
    },
}
"""Presets of checkpoints that come without settings, as the released ones do. Chosen by what they cost, 4 and 11
network rows for the paper's 50; not measured with these weights."""

_FAST: dict[str, Any] = {"guidance_scale": 1.0, "guidance_interval": None, "scheduler": "dpmpp", "sigma_min": None,
                         "sigma_max": None, "tta": 1}  # fmt: skip


@dataclass(frozen=True)
class CheckpointSettings:
    """Content of ``checkpoint.json``.

    Attributes:
        stage: which of the two stages the UNet was trained for.
        sampling: how the checkpoint is sampled by default.
        depth_model: name or folder of the Depth Anything network whose depth the UNet was trained on, if any.
        presets: by name (:data:`OWN_PRESETS`), what a preset changes of ``sampling``, by field name.
        default_preset: the preset that is used where the caller names none.

    Raises:
        InputError: if a preset has another name, an unknown field, or a value out of range.
    """

    stage: Stage
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    depth_model: str | None = None
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    default_preset: Preset = "default"

    def __post_init__(self) -> None:
        """Try every preset."""
        if self.default_preset not in PRESETS:
            raise InputError(f"default_preset: expected one of {', '.join(PRESETS)}, got {self.default_preset!r}")
        for name, changes in self.presets.items():
            if name not in OWN_PRESETS:
                raise InputError(f"presets: {name}: a checkpoint's own are {', '.join(OWN_PRESETS)}")
            if not isinstance(changes, dict):
                raise InputError(f"presets.{name}: expected an object, got {type(changes).__name__}")
            try:
                self.sampling.changed(changes)
            except InputError as error:
                raise InputError(f"presets.{name}: {error}") from error

    def preset(self, name: Preset | None) -> SamplingConfig:
        """How the checkpoint is sampled under a preset.

        Args:
            name: ``"paper"`` is the paper's inference for any checkpoint; ``"default"`` the checkpoint's own settings;
                ``"fast"`` takes few steps without guidance, never more than the checkpoint's own. None is
                ``default_preset``.

        Raises:
            InputError: if there is no such preset.
        """
        name = self.default_preset if name is None else name
        if name not in PRESETS:
            raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
        if name == "paper":
            return self.sampling.changed(PAPER)
        if name == "fast" and "fast" not in self.presets:
            return self.sampling.changed({**_FAST, "num_inference_steps": min(self.sampling.num_inference_steps, 4)})
        return self.sampling.changed(self.presets.get(name, {}))


def released_settings(stage: Stage) -> CheckpointSettings:
    """Settings of a checkpoint in the released layout, which brings none: the paper's inference on stretched frames.

    Args:
        stage: which stage its UNet was trained for.
    """
    sampling = SamplingConfig(fit="stretch").changed(PAPER)
    return CheckpointSettings(stage, sampling=sampling, presets=FEW_STEPS, default_preset="paper")


def write_settings(settings: CheckpointSettings, folder: Path) -> None:
    """Write ``checkpoint.json`` into a folder."""
    text = json.dumps({"format": FORMAT, **asdict(settings)}, indent=2)
    (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")


def read_settings(folder: Path) -> CheckpointSettings:
    """Read ``checkpoint.json`` from a folder; format 1, of version 0.1, means what it meant there.

    Raises:
        InputError: if the file is missing, of a newer format, or has keys or values that this version does not know.
    """
    path = folder / SETTINGS_FILE
    values = read_json(path)
    version = values.pop("format", None)
    if "method" in values:
        raise InputError(
            f"{path}: a checkpoint of {values['method']}, expected a stage of diffusion; --method {values['method']} "
            "reads it as stage 1"
        )
    if version not in (1, FORMAT):
        raise InputError(f"{path}: format {version}, this version of the package reads 1 and {FORMAT}; upgrade it")
    if values.get("stage") not in STAGES:
        raise InputError(f"{path}: stage: expected one of {', '.join(STAGES)}, got {values.get('stage')!r}")
    sampling, presets = (_object(values.pop(name, {}), f"{path}: {name}") for name in ("sampling", "presets"))
    if version == 1:
        try:
            sampling = sampling_of_format_1(sampling)
            presets = {name: renamed_of_format_1(changes) for name, changes in presets.items()}
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    beyond = _object(sampling.pop("beyond", {}), f"{path}: sampling.beyond")
    values["sampling"] = _fill(SamplingConfig, {**sampling, "beyond": _fill(BeyondPaper, beyond, path)}, path)
    return _fill(CheckpointSettings, {**values, "presets": presets}, path)


def _object(values: object, name: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise InputError(f"{name}: expected an object, got {type(values).__name__}")
    return values


def _fill(cls: type[T], values: dict[str, Any], path: Path) -> T:
    known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]  # both are dataclasses
    unknown = sorted(values.keys() - known)
    if unknown:
        raise InputError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        return cls(**values)
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error
