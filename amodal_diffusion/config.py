"""How a stage is sampled, and typed settings from YAML and command lines; a mistake is one line and status 2."""

from __future__ import annotations

import difflib
import itertools
import logging
import math
import sys
from argparse import SUPPRESS, Action
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from amodal_diffusion.format_1 import settings_of_format_1
from amodal_diffusion.mistakes import explain
from amodal_diffusion.types import InputError

T = TypeVar("T")
logger = logging.getLogger(__name__)

Conditioning = Literal["corrected", "released"]
Fit = Literal["stretch", "letterbox", "crop"]
Resample = Literal["pil", "cv2"]
Scheduler = Literal["euler", "heun", "dpmpp"]
InitialNoise = Literal["random", "zero"]
Attention = Literal["sdpa", "plain", "xformers"]
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
    """What goes beyond the paper; every field is optional, works for any checkpoint, and is off in ``preset="paper"``.

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
            :func:`~amodal_diffusion.frames.seams.blend_seams`.
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
        if not isinstance(self.shrink_mask, int) or isinstance(self.shrink_mask, bool) or self.shrink_mask < 0:
            raise InputError(f"shrink_mask: expected a number of pixels, at least 0, got {self.shrink_mask!r}")


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
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1) and not (name == "encode_chunk_size" and value is None):
                raise InputError(f"{name}: expected at least 1, got {value!r}")
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
        own, beyond = _field_names(SamplingConfig) - {"beyond"}, _field_names(BeyondPaper)
        unknown = sorted(changes.keys() - own - beyond)
        if unknown:
            nearest = difflib.get_close_matches(unknown[0], sorted(own | beyond), n=1, cutoff=0.0)[0]
            raise InputError(f"{unknown[0]}: no setting of sampling has this name; did you mean {nearest}?")
        inner = replace(self.beyond, **{name: value for name, value in changes.items() if name in beyond})
        return replace(self, beyond=inner, **{name: value for name, value in changes.items() if name in own})


class HelpFormatter(DefaultHelpFormatter):
    """Help without types, and with a default only where it says something."""

    def _get_help_string(self, action: Action) -> str:
        default = action.default
        if not action.option_strings or default in (None, False, "", (), SUPPRESS) or default == []:
            return action.help or ""
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        return f"{action.help} (default: {str(shown).replace('%', '%%')})"


class CommandParser(ArgumentParser):
    """A jsonargparse parser whose mistakes are one line and whose flags beat `--config` in any order."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - argparse's own constructor arguments
        """Build the parser; a shortened flag is refused like any other unknown one."""
        self.advanced: set[str] = set()  # destinations that `--help` leaves out
        self.renamed: dict[str, str | Mapping[str, Sequence[str]]] = {}  # hidden options of an earlier version
        self.moved: Mapping[str, str] = {}  # for names that are refused, what to do instead
        self.stray: str | None = None  # option that a value without an option's name may be meant for
        super().__init__(**{"allow_abbrev": False, "formatter_class": HelpFormatter, **settings})

    def parse_args(  # type: ignore[override]  # argparse's overloads, of which only one is meant here
        self,
        args: Sequence[str] | None = None,
        namespace: Namespace | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> Namespace:
        """Parse a command line, see :meth:`prepare`."""
        return super().parse_args(self.prepare(sys.argv[1:] if args is None else args), namespace, **settings)

    def prepare(self, args: Sequence[str]) -> list[str]:
        """Put a command line into the form that the parser reads.

        Options of an earlier version become today's, a bare truth flag means true, and the files of ``--config`` come
        before any flag, so that flags beat files in any order.

        Args:
            args: the command line of this parser, without the names of programs and subcommands.
        """
        completed = self._complete_flags(self._rename(args))
        if "--config" not in self._option_string_actions:
            return completed
        return _files_first(completed, ["--config", *(f"--{group}" for group in self.groups or ())])

    def format_help(self, *formatter: Any) -> str:  # noqa: ANN401 - jsonargparse's own
        """The help without the options in ``advanced``."""
        hidden = [action for action in self._actions if action.dest in self.advanced]
        texts = [action.help for action in hidden]
        for action in hidden:
            action.help = SUPPRESS
        try:
            return super().format_help(*formatter)
        finally:
            for action, text in zip(hidden, texts, strict=True):
                action.help = text

    def format_full_help(self) -> str:
        """The help with all options."""
        return super().format_help()

    def _rename(self, args: Sequence[str]) -> list[str]:
        """Replace options of an earlier version, by name or by name and value."""
        current: list[str] = []
        remaining = iter(args)
        for argument in remaining:
            flag, equals, value = argument.partition("=")
            new = self.renamed.get(flag)
            if new is None:
                current.append(argument)
            elif isinstance(new, str):
                current.append(new + equals + value)
            else:
                value = value if equals else next(remaining, "")
                if value not in new:
                    self.error(f"{flag}: expected one of {', '.join(new)}, got {value or 'nothing'}")
                current += new[value]
        return current

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and exit with status 2, or raise where the parser does not exit on errors.

        Args:
            message: what is wrong, in jsonargparse's words.
            ex: its cause.

        Raises:
            InputError: if the parser was made with ``exit_on_error=False``.
        """
        line = explain(message, self, moved=self.moved, stray=self.stray)
        if not self.exit_on_error:
            raise InputError(line) from ex
        self.exit(2, f"error: {line}\n")
        raise AssertionError  # argparse's exit never returns; its signature does not say so

    def _complete_flags(self, args: Sequence[str]) -> list[str]:
        """Take `--dry-run` for `--dry_run true`: dashes for underscores, and no value for true."""
        completed = []
        for argument, following in itertools.zip_longest(args, args[1:], fillvalue="--"):
            flag, equals, value = argument.partition("=")
            if flag.startswith("--") and flag not in self._option_string_actions:
                spellings = ["--" + flag[2:].replace("-", "_"), "--" + flag[2:].replace("_", "-")]
                flag = next((name for name in spellings if name in self._option_string_actions), flag)
            action = self._option_string_actions.get(flag)
            if action is None:
                completed.append(argument)
            elif getattr(action, "_typehint", None) is bool and not equals and following.startswith("--"):
                completed.append(f"{flag}=true")
            else:
                completed.append(flag + equals + value)
        return completed


class SettingsParser(CommandParser):
    """A parser of settings, whose YAML files may have keys of version 0.1."""

    def parse_string(self, content: str, path: str = "", **settings: Any) -> Any:  # noqa: ANN401
        """Parse the content of a YAML file; a notice names the keys of version 0.1 and what they are called now.

        Args:
            content: YAML.
            path: the file's name, for messages.
            settings: jsonargparse's own.
        """
        try:
            values = yaml.safe_load(content)
            today, renamed = settings_of_format_1(values) if isinstance(values, dict) else (values, {})
        except yaml.YAMLError:
            today, renamed = None, {}  # the parser's own error names the line
        except InputError as error:
            self.error(f"{path}: {error}", error)
        if renamed:
            names = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
            logger.warning("%s: written for version 0.1; %s", path, names)
            content = yaml.safe_dump(today, sort_keys=False)
        parsed: Namespace = super().parse_string(content, path, **settings)
        return parsed


def parse_settings(cls: type[T], args: Sequence[str], *, prog: str | None = None, description: str | None = None) -> T:
    """Read settings from a command line: the dataclass's defaults, then YAML, then flags.

    Args:
        cls: a dataclass, whose fields may be dataclasses; ``--data.frames 8`` sets one of those. Its ``MOVED``, if it
            has one, says what to give in place of keys that it no longer has.
        args: the command line without the program's name.
        prog: the program's name in its help.
        description: first line of its help.

    Returns:
        the settings. A mistake prints one line ``error: ...`` and exits with status 2.
    """
    parser = _settings_parser(cls, prog=prog, description=description)
    try:
        return _instantiate(cls, parser, parser.parse_args(args))
    except InputError as error:
        parser.error(str(error), error)


def load_settings(cls: type[T], path: Path, overrides: Mapping[str, object] | None = None) -> T:
    """Read settings from a YAML file.

    Args:
        cls: a dataclass, whose fields may be dataclasses.
        path: the file.
        overrides: values by dotted name, such as ``{"data.frames": 8}``, that beat the file.

    Raises:
        InputError: if the file cannot be read, has an unknown key (names the nearest known one) or a value of
            another type than the field's.
    """
    parser = _settings_parser(cls, exit_on_error=False)
    flags = [f"--{key}={_as_flag(value)}" for key, value in (overrides or {}).items()]
    return _instantiate(cls, parser, parser.parse_args(["--config", str(path), *flags]))


def save_settings(settings: object, path: Path) -> None:
    """Write settings as YAML that :func:`load_settings` reads back equal.

    Args:
        settings: a dataclass instance.
        path: the file, overwritten.
    """
    path.write_text(dump_settings(settings), encoding="utf-8")


def dump_settings(settings: object) -> str:
    """Settings as YAML text, every field with its resolved value.

    Args:
        settings: a dataclass instance.

    Raises:
        TypeError: if it is not one.
    """
    if not is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"settings: expected a dataclass instance, got {settings!r}")
    text: str = yaml.safe_dump(_plain(asdict(settings)), sort_keys=False, allow_unicode=True)
    return text


def find_config(name: str) -> str:
    """Where a YAML file is: the name itself, or the file of that name that the package ships.

    Args:
        name: path, or name of a shipped file such as ``configs/debug_cpu.yaml``.

    Returns:
        the path; the name unchanged where there is no such file, for the parser to say so.
    """
    path = shipped_configs() / name.removeprefix("configs/")
    return str(path) if not Path(name).exists() and path.is_file() else name


def shipped_configs() -> Path:
    """Folder of the YAML files that the package ships: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _settings_parser(cls: type[Any], **settings: Any) -> CommandParser:  # noqa: ANN401
    parser = SettingsParser(**settings)
    parser.moved = getattr(cls, "MOVED", {})
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_class_arguments(cls, nested_key=None)
    return parser


def _instantiate(cls: type[T], parser: CommandParser, values: Namespace) -> T:
    values.pop("config", None)
    return cls(**vars(parser.instantiate(values)))


def _files_first(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """Move options that name a YAML file to the front, so that every other flag beats them."""
    moved: dict[str, list[str]] = {option: [] for option in options}
    others = []
    remaining = iter(args)
    for argument in remaining:
        option, equals, value = argument.partition("=")
        if option not in moved:
            others.append(argument)
            continue
        path = value if equals else next(remaining, None)
        moved[option] += [option] if path is None else [option, find_config(path)]
    return [*itertools.chain.from_iterable(moved.values()), *others]


def _as_flag(value: object) -> str:
    if isinstance(value, (str, Path)):
        return str(value)
    text: str = yaml.safe_dump(_plain(value), default_flow_style=True, width=10**6)
    return text.strip().removesuffix("...").strip()


def _plain(value: object) -> object:
    """Turn tuples and paths into what YAML has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _field_names(cls: type[Any]) -> set[str]:
    return {entry.name for entry in fields(cls)}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(name: str, value: object, *, least: float = -math.inf, above: float = -math.inf) -> None:
    if not (isinstance(value, (int, float)) and _is_number(value) and value >= least and value > above):
        bound = f" above {above:g}" if above > -math.inf else f", at least {least:g}" if least > -math.inf else ""
        raise InputError(f"{name}: expected a number{bound}, got {value!r}")


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
