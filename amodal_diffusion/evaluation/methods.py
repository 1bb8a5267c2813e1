"""What can be scored, by name: baselines, and models with or without depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from amodal_diffusion.baselines import (
    HullSegmenter,
    ModalSegmenter,
    NearerSegmenter,
    TemporalSegmenter,
    UnionSegmenter,
    copy_best_seen,
    fill_with_mean_color,
)
from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import Preset
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget, ReferenceProtocol, Target
from amodal_diffusion.models.downloads import Wanted, fetch, folder_of, read_source
from amodal_diffusion.models.light_vae import locate_vae
from amodal_diffusion.pipelines.completer import AmodalCompleter, CompletionConfig
from amodal_diffusion.pipelines.methods import DIFFUSION, METHODS, StageNames
from amodal_diffusion.pipelines.postprocessing import cut_resized
from amodal_diffusion.types import AmodalSegmenter, BoolArray, FloatArray, UInt8Array

DEPTH_SUFFIX = "@depth"
VAE_SUFFIX = "+vae"
_BASELINES: dict[str, AmodalSegmenter] = {
    "modal": ModalSegmenter(),
    "hull": HullSegmenter(),
    "hull-nearer": NearerSegmenter(HullSegmenter()),
    "temporal": TemporalSegmenter(),
    "temporal-nearer": NearerSegmenter(TemporalSegmenter()),
    "temporal-hull": UnionSegmenter(TemporalSegmenter(), HullSegmenter()),
    "temporal-hull-nearer": NearerSegmenter(UnionSegmenter(TemporalSegmenter(), HullSegmenter())),
}
_NEED_DEPTH = frozenset(name for name in _BASELINES if name.endswith("-nearer"))
BASELINES: tuple[str, ...] = tuple(_BASELINES)


class Method(Protocol):
    """One way to complete objects.

    Attributes:
        name: as given by the user.
        learned: whether it is a model.
        uses_depth: whether it is given the depth.
    """

    name: str
    learned: bool
    uses_depth: bool

    def predict(self, track: Target, *, sample: int = 0) -> BoolArray:
        """Predict the whole object's mask, bool ``[F, H, W]``; a learned method's differ by sample."""
        ...

    def paint(self, track: MaskTarget) -> UInt8Array:
        """Paint the whole object, its true mask given, uint8 ``[F, H, W, 3]``."""
        ...

    def describe(self, *, paints: bool) -> dict[str, object]:
        """Which networks with which settings it is, for JSON; nothing without learning.

        Args:
            paints: tell of the stage that paints as well.
        """
        ...


class BaselineMethod:
    """A method without learning.

    It paints the object's mean visible color; one that estimates motion takes the colors that other frames show.
    """

    learned = False

    def __init__(self, name: str) -> None:
        """Take the baseline of that name."""
        self.name = name
        self.uses_depth = name in _NEED_DEPTH
        self._segment = _BASELINES[name]

    def predict(self, track: Target, *, sample: int = 0) -> BoolArray:  # noqa: ARG002 - nothing in it is random
        """See `Method`."""
        return self._segment(track.clip, track.depth if self.uses_depth else None).mask

    def paint(self, track: MaskTarget) -> UInt8Array:
        """See `Method`."""
        if self.name.startswith("temporal"):
            return copy_best_seen(track.clip, track.amodal_mask, track.depth if self.uses_depth else None)
        return fill_with_mean_color(track.clip.rgb, track.clip.modal_mask)

    def describe(self, *, paints: bool) -> dict[str, object]:  # noqa: ARG002 - it has no networks in either stage
        """See `Method`."""
        return {}


@dataclass(frozen=True)
class ModelOptions:
    """How models are loaded and sampled, see :class:`AmodalCompleter`.

    Attributes:
        device: where they run.
        dtype: of their weights.
        vae: light autoencoder of the models whose name ends in :data:`VAE_SUFFIX`.
        preset: how to sample, by name; the checkpoint's default when None.
        changes: arguments of :meth:`AmodalCompleter.config` beside the preset.
        protocol: what the benchmark's published evaluation does differently.
        stages: that are needed, so that others are not downloaded.
        yes: download without asking.
    """

    device: str = "auto"
    dtype: str = "auto"
    vae: str | None = None
    preset: Preset | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    protocol: ReferenceProtocol = field(default_factory=ReferenceProtocol)
    stages: Sequence[Stage] = STAGES
    yes: bool = False


class LoadedModel:
    """A model's two stages, each loaded when it is first needed and shared by the methods that use it.

    Args:
        folders: of each stage, see :func:`find_models`.
        how: it is loaded and sampled.
        vae: folder of the light autoencoder in place of its own; None for its own.
    """

    def __init__(self, folders: Mapping[Stage, Path], how: ModelOptions, vae: Path | None = None) -> None:
        self._folders, self._how, self._vae = folders, how, vae

    @cached_property
    def segmentation(self) -> AmodalCompleter:
        """Stage 1 alone."""
        return self._load("amodal_segmentation")

    @cached_property
    def content(self) -> AmodalCompleter:
        """Stage 2 alone."""
        return self._load("content_completion")

    @cached_property
    def segmentation_config(self) -> CompletionConfig:
        """How stage 1 is sampled."""
        return self._config(self.segmentation)

    @cached_property
    def content_config(self) -> CompletionConfig:
        """How stage 2 is sampled."""
        return self._config(self.content)

    @property
    def protocol(self) -> ReferenceProtocol:
        """What the published evaluation does differently for stage 1; nothing beyond its config if not released."""
        config = self.segmentation_config.amodal_segmentation
        return self._how.protocol if config is not None and config.conditioning == "released" else ReferenceProtocol()

    def describe(self, *, paints: bool) -> dict[str, object]:
        """Networks and sampling of stage 1, and with ``paints`` of stage 2, for JSON."""
        loaded: dict[Stage, tuple[AmodalCompleter, CompletionConfig]] = {
            "amodal_segmentation": (self.segmentation, self.segmentation_config)
        }
        if paints:
            loaded["content_completion"] = (self.content, self.content_config)
        return {
            stage: {
                "downloaded": _source(self._folders[stage]),
                "fingerprint": completer.fingerprints()[stage],
                "preset": self._how.preset,
                "sampling": completer.settings(config)[stage],
            }
            for stage, (completer, config) in loaded.items()
        }

    def _config(self, completer: AmodalCompleter) -> CompletionConfig:
        protocol = self._how.protocol
        changes = {**self._how.changes, "resample": protocol.resample}
        config = completer.config(preset=self._how.preset, **changes)
        stage = config.amodal_segmentation or config.content_completion
        if stage is not None and stage.conditioning == "released":
            return completer.config(preset=self._how.preset, **changes, fps=protocol.fps)
        return config

    def _load(self, stage: Stage) -> AmodalCompleter:
        completer = AmodalCompleter.from_pretrained(
            self._folders[stage], vae=self._vae, stages=(stage,), device=self._how.device, dtype=self._how.dtype
        )
        completer.warn_without_depth = False  # methods without depth are measured too
        return completer


class ModelMethod:
    """A model, sampled as its options say: the same call as a user's."""

    learned = True

    def __init__(self, name: str, model: LoadedModel, *, uses_depth: bool) -> None:
        """Take a model under the name that the report gives it; stage 1 is loaded here."""
        self.name = name
        self.uses_depth = uses_depth
        self._model = model
        _ = model.segmentation_config  # loads the stage and checks the settings

    def predict(self, track: Target, *, sample: int = 0) -> BoolArray:
        """See `Method`."""
        model, depth = self._model, track.depth if self.uses_depth else None
        if depth is not None and model.protocol.depth_bits is not None:
            depth = _rounded(depth, model.protocol.depth_bits)
        config = model.segmentation_config
        result = model.segmentation(track.clip, config, depth=depth, seed=track.seed(sample))
        stage = config.amodal_segmentation
        if not model.protocol.cut_resized or result.score is None or stage is None or stage.fit != "stretch":
            return result.amodal_mask
        modal = track.clip.modal_mask
        return cut_resized(result.score, modal.shape[1:], stage.mask_threshold) | modal

    def paint(self, track: MaskTarget) -> UInt8Array:
        """See `Method`."""
        model, depth = self._model, track.depth if self.uses_depth else None
        result = model.content(
            track.clip, model.content_config, depth=depth, amodal_mask=track.amodal_mask, seed=track.seed()
        )
        if result.amodal_rgb is None:
            raise RuntimeError(f"{self.name}: stage 2 is loaded and painted nothing")
        return result.amodal_rgb

    def describe(self, *, paints: bool) -> dict[str, object]:
        """See `Method`."""
        return self._model.describe(paints=paints)


def _rounded(depth: FloatArray, bits: int) -> FloatArray:
    """Depth in 0..1 with so many bits, float32 of the same shape."""
    top = np.float32(2**bits - 1)
    return np.rint(depth * top) / top


def build_methods(names: Sequence[str], how: ModelOptions | None = None) -> list[Method]:
    """Make the methods of a list of names.

    Args:
        names: baselines (`BASELINES`) or models, of any method of stage 1; a model's name followed by ``@depth`` is
            given the depth, and one followed by ``+vae`` (before ``@depth``) encodes and decodes with the light
            autoencoder ``how.vae``.
        how: models are loaded.

    Raises:
        InputError: if a name stands twice, or is neither a baseline nor a model that can be loaded.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise InputError(f"methods: expected each method once, got {', '.join(twice) or 'none'}")
    how = how or ModelOptions()
    folders, light = find_models(names, how)
    models = {
        model: LoadedModel(found, how, light if model.endswith(VAE_SUFFIX) else None)
        for model, found in folders.items()
    }
    methods: list[Method] = []
    for name in names:
        if name in _BASELINES:
            methods.append(BaselineMethod(name))
            continue
        uses_depth = name.endswith(DEPTH_SUFFIX)
        methods.append(ModelMethod(name, models[name.removesuffix(DEPTH_SUFFIX)], uses_depth=uses_depth))
    return methods


def find_models(names: Sequence[str], how: ModelOptions) -> tuple[dict[str, dict[Stage, Path]], Path | None]:
    """The folders of all models of a list of names, after one question for everything that has to be downloaded.

    Args:
        names: as for :func:`build_methods`.
        how: which stages are needed, and the answer.

    Returns:
        folders by model, without ``@depth``, and stage, where a model with ``+vae`` is an entry of its own; and the
        folder of the light autoencoder, None without one.

    Raises:
        InputError: if a name is no model, a model is not here and cannot or may not be downloaded, or its method uses
            no depth or no autoencoder.
    """
    chosen: dict[str, StageNames] = {}
    places: dict[tuple[str, Stage], Path | Wanted] = {}
    for name in names:
        model = name.removesuffix(DEPTH_SUFFIX)
        if name in _BASELINES:
            continue
        if model in _BASELINES:
            raise InputError(f"methods: {name}: {DEPTH_SUFFIX} is for models; {model} is a baseline")
        if model.endswith(VAE_SUFFIX) and how.vae is None:
            raise InputError(
                f"methods: {name}: expected --vae NAME beside a method that ends in {VAE_SUFFIX}, got none"
            )
        chosen[model] = StageNames(model.removesuffix(VAE_SUFFIX), stages=how.stages)
        _check_suffixes(model, chosen[model].known_method, names)
        places |= {(model, stage): place for stage, place in chosen[model].places().items()}
    light = None if how.vae is None else locate_vae(how.vae)
    if light is not None and not any(model.endswith(VAE_SUFFIX) for model, _ in places):
        raise InputError(
            f"--vae {how.vae}: expected a method that ends in {VAE_SUFFIX}, such as tiny{VAE_SUFFIX}, got "
            f"{', '.join(names)}; add one, or leave out --vae"
        )
    found = fetch([place for place in (*places.values(), light) if isinstance(place, Wanted)], yes=how.yes)
    folders: dict[str, dict[Stage, Path]] = {}
    for model, stages in chosen.items():
        own = {stage: folder_of(place, found) for (name, stage), place in places.items() if name == model}
        method, folders[model] = stages.settle(own)
        _check_suffixes(model, method, names)  # of a hub id the download tells the method
    return folders, None if light is None else folder_of(light, found)


def _check_suffixes(model: str, method: str, names: Sequence[str]) -> None:
    """Refuse depth and autoencoder for a model whose method has no use for them."""
    if f"{model}{DEPTH_SUFFIX}" in names and not METHODS[method].uses_depth:
        raise InputError(f"methods: {model}{DEPTH_SUFFIX}: {method} uses no depth; leave out {DEPTH_SUFFIX}")
    if model.endswith(VAE_SUFFIX) and method != DIFFUSION:
        raise InputError(f"methods: {model}: {method} has no autoencoder to replace; leave out {VAE_SUFFIX}")


def _source(folder: Path) -> dict[str, str] | None:
    """Repository and commit of a downloaded model, for JSON."""
    source = read_source(folder)
    return None if source is None else asdict(source)


def check_depth(methods: Sequence[Method], track: Target) -> None:
    """Refuse methods that use depth where there is none.

    Args:
        methods: to be scored.
        track: one of the benchmark's.

    Raises:
        InputError: names the methods.
    """
    needy = [method.name for method in methods if method.uses_depth]
    if needy and track.depth is None:
        raise InputError(
            f"methods: {', '.join(needy)}: need depth, and {track.identity} has none; give --depth, or --depth-model "
            f"to estimate it, or leave them out ({DEPTH_SUFFIX} of a model)"
        )
