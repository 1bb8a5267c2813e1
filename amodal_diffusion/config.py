"""How a stage is sampled, and the values that its settings and the options choose from."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from typing import Any, Literal, get_args

from amodal_diffusion.basics import InputError

Conditioning = Literal["corrected", "released"]
Fit = Literal["stretch", "letterbox", "crop"]
Resample = Literal["pil", "cv2"]
Scheduler = Literal["euler", "heun", "dpmpp"]
InitialNoise = Literal["random", "zero"]
Attention = Literal["sdpa", "plain", "xformers"]
Trainable = Literal["paper", "all", "lora"]
Offload = Literal["none", "model", "sequential"]
Preset = Literal["fast", "default", "paper"]
MaskFilter = Literal["depth", "components", "area"]
MaskType = Literal["binary", "labels", "alpha"]
MASK_TYPES: tuple[MaskType, ...] = get_args(MaskType)
Alpha = Literal["straight", "premultiplied"]
"""How the colors of a layer are written: as they are, or multiplied by alpha."""
MASK_FILTERS: tuple[MaskFilter, ...] = get_args(MaskFilter)
OLD_FILTERS = {"behind": "depth", "attached": "components", "growth": "area"}
"""Mask filters by their names in version 0.1."""
HIGHEST_THRESHOLD = 0.5
"""Largest threshold that a frame may choose for itself: a pixel that is more likely the object's than not is taken."""


@dataclass(frozen=True)
class BeyondPaper:
    """What goes beyond the paper; every field is optional and works for any checkpoint.

    ``preset="paper"`` turns all of it off but for what the network was trained with: `crop_scale` and `temporal_prior`.

    Attributes:
        crop_scale: with ``fit="crop"``, side of the crop over that of the object's largest visible extent, above 0.
        temporal_prior: stage 1's modal mask shows in gray what other frames of the window show of the object, see
            :func:`~amodal_diffusion.propagation.mask_prior.temporal_mask_prior`. A checkpoint that was trained with the
            prior needs it, also under ``preset="paper"``.
        mask_propagation: where other frames of the window show the object or background, and their motion is found
            well, stage 1's score is blended with what they show, at the frames' resolution; see
            :func:`~amodal_diffusion.propagation.mask_propagation.propagate_masks`.
        expected_iou_weight: if given, each frame gets the threshold, from ``mask_threshold`` to 0.5, whose mask has the
            largest expected IoU: of the hidden part for 0, of the whole object for 1, or of a mixture between.
        mask_filters: what removes an invented hidden part: ``"depth"`` (nothing nearer hides it), ``"components"`` (not
            connected to the visible part), ``"area"`` (larger than four times the largest visible area).
        skip_unoccluded: the networks see only the frames in which the object can be occluded, and some around them.
        tta: test-time augmentation of stage 1: scores are the mean over 1, 2 (also mirrored) or 4 (also backwards in
            time) passes.
        color_propagation: stage 2 takes colors from other frames of the window as far as they can be relied on.
        seam_blending: stage 2's painting is shifted by what it gets wrong in visible pixels nearby, see
            :func:`~amodal_diffusion.frames.seams.blend_seams`, and has no white along the outline of the object.
        shrink_mask: pixels by which stage 2 erodes the visible mask, at least 0. The rim, into which colors of an
            occluder may be mixed, gets reliable colors of other frames, else those of the nearest visible pixels. Masks
            are not changed.

    Raises:
        InputError: if a value is out of range.
    """

    crop_scale: float = 2.0
    temporal_prior: bool = False
    mask_propagation: bool = False
    expected_iou_weight: float | None = None
    mask_filters: tuple[MaskFilter, ...] = ()
    skip_unoccluded: bool = False
    tta: int = 1
    color_propagation: bool = False
    seam_blending: bool = False
    shrink_mask: int = 0

    def __post_init__(self) -> None:
        """Check what files, presets and callers set."""
        _to_plain_numbers(self)
        # JSON and YAML have lists
        object.__setattr__(self, "mask_filters", _mask_filters(self.mask_filters))
        for name in ("temporal_prior", "mask_propagation", "skip_unoccluded", "color_propagation", "seam_blending"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        _check_number("crop_scale", self.crop_scale, above=0)
        if self.expected_iou_weight is not None:
            _check_number("expected_iou_weight", self.expected_iou_weight, least=0)
        if self.tta not in (1, 2, 4):
            raise InputError(f"tta: expected 1, 2 or 4 passes, got {self.tta!r}")
        _check_integer("shrink_mask", self.shrink_mask, least=0)


@dataclass(frozen=True)
class SamplingConfig:
    """How one stage is sampled; the defaults are the paper's (section 5 of docs/method.md).

    Attributes:
        num_inference_steps: denoising steps, at least 1.
        guidance_scale: weight of classifier-free guidance, constant over frames; 1 or less is without.
        guidance_interval: lowest and highest sigma at which guidance applies; at others its second row is not computed.
            None applies guidance at every sigma.
        scheduler: ``"euler"``, ``"heun"`` (two network passes a step but the last) or ``"dpmpp"`` (DPM-Solver++ of
            second order); None takes the checkpoint's own scheduler.
        sigma_min: the schedule's lowest sigma above 0; the scheduler's own when None.
        sigma_max: the schedule's highest sigma; the scheduler's own when None.
        initial_noise: ``"random"`` starts from noise of the seed. ``"zero"`` starts from the mean of the noise, for a
            checkpoint that was fine-tuned to one deterministic step; it needs one step, one sample and no guidance.
        noise_aug_strength: standard deviation of the noise added to the condition pixels, at least 0.
        height: pixels the network works at, a multiple of the VAE's factor.
        width: pixels the network works at, a multiple of the VAE's factor.
        num_frames: frames of a window; longer clips are cut into windows that overlap by a quarter.
        fit: how a frame becomes ``height`` x ``width``: ``"stretch"`` as for the released checkpoints, ``"letterbox"``
            keeps the aspect, ``"crop"`` shows the object closely.
        resample: ``"pil"`` scales with antialiasing, ``"cv2"`` without, as the loaders of the reference.
        conditioning: ``"corrected"`` builds conditions and masks as training does; ``"released"`` repeats the
            reference's inference: one token a frame, fps minus one, masks cut at the network's size.
        mask_threshold: stage 1's mask is where the mean of the 8-bit RGB levels, 0 to 1, is above this; 0 to below 1.
        samples: predictions of stage 1, each from its own noise; the mask is what most of them have.
        fps: frame rate the network is told, whatever the clip's own.
        motion_bucket_id: amount of motion the network is told.
        decode_chunk_size: frames the VAE decodes together; part of the result with a temporal decoder.
        encode_chunk_size: frames the VAE encodes together, which changes latents by rounding; None chooses by the free
            memory of a GPU.
        beyond: what goes beyond the paper.

    Raises:
        InputError: if a value is out of range.
    """

    num_inference_steps: int = 25
    guidance_scale: float = 1.5
    guidance_interval: tuple[float, float] | None = None
    scheduler: Scheduler | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    initial_noise: InitialNoise = "random"
    noise_aug_strength: float = 0.02
    height: int = 256
    width: int = 512
    num_frames: int = 25
    fit: Fit = "letterbox"
    resample: Resample = "pil"
    conditioning: Conditioning = "corrected"
    mask_threshold: float = 200 / 255
    samples: int = 1
    fps: int = 8
    motion_bucket_id: int = 127
    decode_chunk_size: int = 8
    encode_chunk_size: int | None = None
    beyond: BeyondPaper = field(default_factory=BeyondPaper)

    def __post_init__(self) -> None:
        """Check what files, presets and callers set."""
        _to_plain_numbers(self)
        for name, choices in (
            ("scheduler", Scheduler),
            ("initial_noise", InitialNoise),
            ("fit", Fit),
            ("resample", Resample),
            ("conditioning", Conditioning),
        ):
            value = getattr(self, name)
            if value not in get_args(choices) and not (name == "scheduler" and value is None):
                raise InputError(f"{name}: expected one of {', '.join(get_args(choices))}, got {value!r}")
        for name in ("num_inference_steps", "height", "width", "num_frames", "samples", "decode_chunk_size",
                     "encode_chunk_size"):  # fmt: skip
            if not (name == "encode_chunk_size" and self.encode_chunk_size is None):
                _check_integer(name, getattr(self, name), least=1)
        for name in ("noise_aug_strength", "fps", "motion_bucket_id"):
            _check_number(name, getattr(self, name), least=0)
        _check_number("guidance_scale", self.guidance_scale)
        if self.guidance_interval is not None:
            # JSON and YAML have lists
            object.__setattr__(self, "guidance_interval", _interval(self.guidance_interval))
        for name in ("sigma_min", "sigma_max"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name), above=0)
        if self.sigma_min is not None and self.sigma_max is not None and self.sigma_min >= self.sigma_max:
            raise InputError(f"sigma_min: expected less than sigma_max, {self.sigma_max}, got {self.sigma_min}")
        self._check_threshold()
        self._check_initial_noise()

    def _check_initial_noise(self) -> None:
        if self.initial_noise == "random":
            return
        for name, largest in (("num_inference_steps", 1), ("samples", 1), ("guidance_scale", 1)):
            if getattr(self, name) > largest:
                raise InputError(
                    f"{name}: expected at most {largest} beside initial_noise zero, with which a checkpoint is sampled "
                    f"in one deterministic step, got {getattr(self, name)}"
                )

    def _check_threshold(self) -> None:
        threshold = self.mask_threshold
        if not (_is_number(threshold) and 0 <= threshold < 1):
            raise InputError(f"mask_threshold: expected at least 0 and less than 1, got {threshold!r}")
        if self.beyond.expected_iou_weight is not None and not 0 < threshold <= HIGHEST_THRESHOLD:
            raise InputError(
                f"mask_threshold: expected above 0 and at most {HIGHEST_THRESHOLD} beside expected_iou_weight, for "
                f"which it is the least of a frame's own thresholds, got {threshold}; lower it, or leave out "
                "expected_iou_weight"
            )

    @property
    def overlap(self) -> int:
        """Frames that neighboring windows share: a quarter of a window."""
        return self.num_frames // 4

    @property
    def network_passes(self) -> int:
        """Calls of the network for one window and pass of test-time augmentation; the rows of guidance count as one."""
        steps = self.num_inference_steps
        return 2 * steps - 1 if self.scheduler == "heun" else steps

    def changed(self, changes: Mapping[str, Any]) -> SamplingConfig:
        """A copy with other values.

        Args:
            changes: values by field name; those of `beyond` by their own names, as in ``{"tta": 1}``.

        Raises:
            InputError: if there is no such field (names the nearest), or a value is out of range.
        """
        beyond = _field_names(BeyondPaper)
        unknown = sorted(changes.keys() - setting_names())
        if unknown:
            nearest = difflib.get_close_matches(unknown[0], sorted(setting_names()), n=1, cutoff=0.0)[0]
            raise InputError(f"{unknown[0]}: no setting of sampling has this name; did you mean {nearest}?")
        inner = replace(self.beyond, **{name: value for name, value in changes.items() if name in beyond})
        return replace(self, beyond=inner, **{name: value for name, value in changes.items() if name not in beyond})


def setting_names() -> set[str]:
    """Names that :meth:`SamplingConfig.changed` takes."""
    return _field_names(SamplingConfig) - {"beyond"} | _field_names(BeyondPaper)


def check_seed(seed: object) -> None:
    """Check a seed that a caller gives.

    Raises:
        InputError: if it is no integer of at least 0.
    """
    _check_integer("seed", seed, least=0)


def _field_names(cls: type[Any]) -> set[str]:
    return {entry.name for entry in fields(cls)}


def _to_plain_numbers(config: BeyondPaper | SamplingConfig) -> None:
    """Turn numpy's numbers into Python's, which JSON takes."""
    for name in _field_names(type(config)):
        value = getattr(config, name)
        if getattr(value, "ndim", None) == 0:  # numpy is not imported here, so that `--help` answers at once
            object.__setattr__(config, name, value.item())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(name: str, value: object, *, least: float = -math.inf, above: float = -math.inf) -> None:
    if not (isinstance(value, (int, float)) and _is_number(value) and value >= least and value > above):
        bound = f" above {above:g}" if above > -math.inf else f", at least {least:g}" if least > -math.inf else ""
        raise InputError(f"{name}: expected a number{bound}, got {value!r}")


def _check_integer(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name}: expected an integer, got {value!r}")
    if int(value) < least:
        raise InputError(f"{name}: expected at least {least}, got {value}")


def _interval(given: Any) -> tuple[float, float]:  # noqa: ANN401 - from a file, it may be anything
    fits = isinstance(given, (list, tuple)) and len(given) == 2 and all(map(_is_number, given))
    if not fits or not 0 <= given[0] < given[1]:
        raise InputError(f"guidance_interval: expected two sigmas, the lower first, got {given!r}")
    return float(given[0]), float(given[1])


def _mask_filters(given: Any) -> tuple[MaskFilter, ...]:  # noqa: ANN401 - from a file, it may be anything
    """Filters in the order in which they are applied, each once."""
    names = list(given) if isinstance(given, (list, tuple)) else [given]
    wrong = [str(name) for name in names if name not in MASK_FILTERS]
    if wrong:
        raise InputError(f"mask_filters: expected some of {', '.join(MASK_FILTERS)}, got {', '.join(wrong)}")
    return tuple(name for name in MASK_FILTERS if name in names)
