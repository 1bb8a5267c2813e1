"""What a checkpoint says of itself: its stage, how it is sampled, its depth network (`checkpoint.json`)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from amodal_diffusion.models.weights import read_json
from amodal_diffusion.types import STAGES, InputError, Stage

SETTINGS_FILE = "checkpoint.json"
FORMAT = 1
Solver = Literal["euler", "heun", "dpmpp"]
SOLVERS: tuple[Solver, ...] = ("euler", "heun", "dpmpp")
VIEWS = (1, 2, 4)
OWN_PRESETS = ("fast", "default")
MOST = 0.5
"""No threshold that a frame gets of its own is above this: what is more likely the object's than not is taken."""
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
        visible_weight: if given, each frame has the threshold, from ``mask_threshold`` to `MOST`, whose mask has the
            largest expected IoU, see :func:`~amodal_diffusion.pipelines.postprocessing.best_threshold`: of the hidden
            part for 0, of the whole object for 1, or of something between.
        other_frames: whether stage 1's visible mask has in grey what other frames of the window show of the object, see
            :func:`~amodal_diffusion.propagation.mask_prior.show_other_frames`.
        other_frames_weight: with depth, what they show counts so much in the scores, beside 1 for the network.
        copies: whether stage 2 copies what other frames of the window show of the hidden part, as far as that can be
            relied on, see :class:`~amodal_diffusion.pipelines.copies.Copies`.
        painted_share: what stage 2's painting counts, in [0, 1], where copies are made and none is at hand, beside the
            mean of the known colours nearby; a network that paints worse than that mean has 0.
        solver: what follows the network from noise to a clip: Euler's method, Heun's (two network passes a step but
            the last), or DPM-Solver++ of second order; None takes the scheduler that came with the checkpoint as it is.
        guidance_interval: lowest and highest sigma at which guidance applies; at others its second row is not even
            computed. None applies it at all.
        sigma_min: the schedule's lowest sigma above 0; the scheduler's own when None.
        sigma_max: the schedule's highest sigma; the scheduler's own when None.
        views: 1, or stage 1's scores are the mean over so many views of a window: 2 are the window as it is and
            mirrored, 4 are both, forwards and backwards in time. The cost grows with it.

    Raises:
        InputError: if solver, interval, sigmas, views, threshold, weight or share are none of these.
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
    visible_weight: float | None = None
    other_frames: bool = False
    other_frames_weight: float = 0.0
    copies: bool = False
    painted_share: float = 1.0
    solver: Solver | None = None
    guidance_interval: tuple[float, float] | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    views: int = 1

    def __post_init__(self) -> None:
        """Check once what files, presets and callers set."""
        if self.solver is not None and self.solver not in SOLVERS:
            raise InputError(f"solver: expected one of {', '.join(SOLVERS)}, got {self.solver!r}")
        if self.guidance_interval is not None:
            # JSON and YAML have lists
            object.__setattr__(self, "guidance_interval", _interval(self.guidance_interval))
        for name in ("sigma_min", "sigma_max"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise InputError(f"{name}: expected a number above 0, got {value!r}")
        if self.sigma_min is not None and self.sigma_max is not None and self.sigma_min >= self.sigma_max:
            raise InputError(f"sigma_min: expected less than sigma_max, {self.sigma_max}, got {self.sigma_min}")
        self._check_threshold()
        self._check_weights()
        if self.views not in VIEWS:
            raise InputError(f"views: expected one of {', '.join(map(str, VIEWS))}, got {self.views!r}")

    def _check_threshold(self) -> None:
        threshold = self.mask_threshold
        if not (_is_number(threshold) and 0 <= threshold < 1):
            raise InputError(f"mask_threshold: expected at least 0 and less than 1, got {threshold!r}")
        if self.visible_weight is not None and not 0 < threshold <= MOST:
            raise InputError(
                f"mask_threshold: expected above 0 and at most {MOST} beside visible_weight, for which it is the least "
                f"of a frame's own thresholds, got {threshold}; lower it, or leave out visible_weight"
            )

    def _check_weights(self) -> None:
        weight = self.visible_weight
        if weight is not None and not (_is_number(weight) and 0 <= weight < math.inf):
            raise InputError(f"visible_weight: expected at least 0, got {weight!r}")
        if not (_is_number(self.other_frames_weight) and 0 <= self.other_frames_weight < math.inf):
            raise InputError(f"other_frames_weight: expected at least 0, got {self.other_frames_weight!r}")
        if self.other_frames_weight > 0 and not self.other_frames:
            raise InputError("other_frames_weight: expected other_frames beside it, which finds what they show")
        if not (_is_number(self.painted_share) and 0 <= self.painted_share <= 1):
            raise InputError(f"painted_share: expected 0 to 1, got {self.painted_share!r}")

    @property
    def network_passes(self) -> int:
        """How often the network is asked about a view of a window, the rows of guidance counted as one."""
        steps = self.num_inference_steps
        return 2 * steps - 1 if self.solver == "heun" else steps


@dataclass(frozen=True)
class CheckpointSettings:
    """Content of ``checkpoint.json``.

    Attributes:
        stage: which of the two stages the UNet was trained for.
        sampling: the default sampling settings.
        depth_model: name or folder of the Depth Anything network whose depth the UNet was trained on, if any.
        presets: by name (:data:`OWN_PRESETS`), what a preset changes of ``sampling``: fields of
            :class:`SamplingDefaults` with their values.

    Raises:
        InputError: if a preset has another name, a field that there is not, or a value that it cannot have.
    """

    stage: Stage
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    depth_model: str | None = None
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Try every preset."""
        for name, changes in self.presets.items():
            if name not in OWN_PRESETS:
                raise InputError(f"presets: {name}: a checkpoint's own are {', '.join(OWN_PRESETS)}")
            if not isinstance(changes, dict):
                raise InputError(f"presets.{name}: expected an object, got {type(changes).__name__}")
            unknown = sorted(changes.keys() - _names(SamplingDefaults))
            if unknown:
                known = ", ".join(sorted(_names(SamplingDefaults)))
                raise InputError(f"presets.{name}: unknown keys {', '.join(unknown)}; known are {known}")
            try:
                replace(self.sampling, **changes)
            except InputError as error:
                raise InputError(f"presets.{name}: {error}") from error


def write_settings(settings: CheckpointSettings, folder: Path) -> None:
    """Write ``checkpoint.json`` into a folder."""
    text = json.dumps({"format": FORMAT, **asdict(settings)}, indent=2)
    (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")


def read_settings(folder: Path) -> CheckpointSettings:
    """Read ``checkpoint.json`` from a folder.

    Raises:
        InputError: if it is missing, of a newer format, or has keys or values that this version does not know.
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
    presets = values.get("presets", {})
    if not isinstance(presets, dict):
        raise InputError(f"{path}: presets: expected an object, got {type(presets).__name__}")
    return _fill(CheckpointSettings, values, path)


def _fill(cls: type[T], values: dict[str, Any], path: Path) -> T:
    known = _names(cls)
    unknown = sorted(values.keys() - known)
    if unknown:
        raise InputError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _names(cls: type[Any]) -> set[str]:
    return {entry.name for entry in fields(cls)}


def _interval(given: Any) -> tuple[float, float]:  # noqa: ANN401 - from a file, it may be anything
    fits = isinstance(given, (list, tuple)) and len(given) == 2 and all(map(_is_number, given))
    if not fits or not 0 <= given[0] < given[1]:
        raise InputError(f"guidance_interval: expected two sigmas, the lower first, got {given!r}")
    return float(given[0]), float(given[1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


Preset = Literal["fast", "default", "paper"]
PRESETS: tuple[Preset, ...] = ("fast", "default", "paper")
Presets = Mapping[str, Mapping[str, Any]]

# The paper's (section 5), whatever a checkpoint says; what it was trained with, such as its size, stays its own.
_PAPER: dict[str, Any] = {
    "num_inference_steps": 25,
    "guidance_scale": 1.5,
    "noise_aug_strength": 0.02,
    "decode_chunk_size": 8,
    "solver": "euler",
    "guidance_interval": None,
    "sigma_min": None,
    "sigma_max": None,
    "views": 1,
}
_SINGLE_VIEW: dict[str, Any] = {"guidance_interval": None, "sigma_min": None, "sigma_max": None, "views": 1}
_FAST: dict[str, Any] = {**_SINGLE_VIEW, "num_inference_steps": 4, "guidance_scale": 1.0, "solver": "dpmpp"}

UNTOLD_PRESETS: dict[str, dict[str, Any]] = {
    "fast": dict(_FAST),
    "default": {**_SINGLE_VIEW, "num_inference_steps": 8, "guidance_scale": 1.5, "solver": "dpmpp",
                "guidance_interval": (1.0, 100.0)},
}  # fmt: skip
"""Of checkpoints that say nothing of how they are sampled, as the released ones. Chosen by what they cost, 4 and 11
network rows for the paper's 50; not measured at full size."""


def without_untold(presets: Presets) -> Presets:
    """The presets that a checkpoint says itself: none of those that this package gave it, also by converting it.

    Args:
        presets: of a loaded checkpoint.

    Returns:
        the same, or none at all where they are `UNTOLD_PRESETS`.
    """
    as_read = {  # JSON has lists
        name: {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
        for name, changes in presets.items()
    }
    return {} if as_read == UNTOLD_PRESETS else presets


def apply_preset(name: Preset, sampling: SamplingDefaults, presets: Presets) -> SamplingDefaults:
    """How a checkpoint samples under a preset.

    Args:
        name: ``"paper"`` is 25 Euler steps under guidance of 1.5 for any checkpoint; ``"default"`` the checkpoint's
            own settings; ``"fast"`` few steps without guidance, and never more than the checkpoint's own.
        sampling: the checkpoint's settings.
        presets: what the checkpoint says of its own presets; they come before those of this package.

    Raises:
        InputError: if there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    if name == "paper":
        return replace(sampling, **_PAPER)
    fallback: Mapping[str, Any] = {}
    if name == "fast":
        fallback = {**_FAST, "num_inference_steps": min(sampling.num_inference_steps, _FAST["num_inference_steps"])}
    return replace(sampling, **presets.get(name, fallback))
