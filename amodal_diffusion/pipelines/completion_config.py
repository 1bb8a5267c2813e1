"""How the two stages are sampled: a preset of their checkpoints, with the caller's values in its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.config import Preset, SamplingConfig, setting_names
from amodal_diffusion.models.checkpoint import CheckpointSettings
from amodal_diffusion.models.latents import Autoencoder, spatial_factor
from amodal_diffusion.models.schedulers import make_scheduler
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline

_ARGUMENTS = ("masks", "fps", "config", "cuts", "labels", "depth", "amodal_mask", "seed")  # of a call


@dataclass(frozen=True)
class CompletionConfig:
    """How the two stages are sampled, from :meth:`AmodalCompleter.config`; None for a stage that is not loaded.

    Attributes:
        amodal_segmentation: of stage 1.
        content_completion: of stage 2.
    """

    amodal_segmentation: SamplingConfig | None
    content_completion: SamplingConfig | None

    @property
    def skip_unoccluded(self) -> bool:
        """Whether the networks see only the frames in which the object can be occluded."""
        stages = (self.amodal_segmentation, self.content_completion)
        return any(stage is not None and stage.beyond.skip_unoccluded for stage in stages)

    def __repr__(self) -> str:
        """For each loaded stage, the settings that differ from the defaults of `SamplingConfig`."""
        return f"CompletionConfig({', '.join(f'{name}: {_changes(config)}' for name, config in self._loaded())})"

    def _loaded(self) -> list[tuple[str, SamplingConfig]]:
        stages = {"amodal_segmentation": self.amodal_segmentation, "content_completion": self.content_completion}
        return [(name, config) for name, config in stages.items() if config is not None]

    def to_json(self) -> dict[str, Any]:
        """The settings of each loaded stage, by name."""
        return {stage: values for stage, values in asdict(self).items() if values is not None}


def _changes(config: SamplingConfig) -> str:
    """Values that are not those of a new `SamplingConfig`, as text."""
    pairs: list[tuple[Any, Any]] = [(config, SamplingConfig()), (config.beyond, SamplingConfig().beyond)]
    names = [(entry.name, own, base) for own, base in pairs for entry in fields(own) if entry.name != "beyond"]
    found = [(name, getattr(own, name)) for name, own, base in names if getattr(own, name) != getattr(base, name)]
    return " ".join(f"{name}={value!r}" for name, value in found) or "defaults"


def checked_config(config: object) -> CompletionConfig | None:
    """Check a configuration that a caller gives; None stays None.

    Raises:
        InputError: if it is something else, such as a dictionary.
    """
    if config is not None and not isinstance(config, CompletionConfig):
        given = type(config).__name__
        raise InputError(
            f"config: expected a CompletionConfig, got {given}; make one with completer.config(preset=...)"
        )
    return config


def refuse_unknown(names: Iterable[str]) -> None:
    """Say where an argument belongs that a call of the completer does not have, such as those of diffusers' pipelines.

    Args:
        names: what was given.

    Raises:
        InputError: if there is a name.
    """
    settings = {"preset", *setting_names()}
    for name in names:
        if name == "generator":
            raise InputError("generator: unknown; give an integer as seed=...")
        nearest = difflib.get_close_matches(name, [*_ARGUMENTS, *sorted(settings)], n=1, cutoff=0.0)[0]
        if nearest in settings:
            meant = "" if name == nearest else "unknown; did you mean a setting? "
            raise InputError(f"{name}: {meant}give it as config=completer.config({nearest}=...)")
        raise InputError(f"{name}: unknown; did you mean {nearest}=...?")


_ELSEWHERE = {
    "torch_dtype": "give it as dtype=...",
    "revision": "give it with the model, as owner/name@REVISION",
    "device_map": "give device=..., or offload='model'",
    "cache_dir": "set the environment variable HF_HOME",
    "local_files_only": "set the environment variable HF_HUB_OFFLINE=1",
    "variant": "leave it out; the files are chosen by themselves",
    "subfolder": "leave it out; both stages are found in the model's folder",
    "use_safetensors": "leave it out; nothing else is read",
    "token": "set the environment variable HF_TOKEN",
    "pretrained_model_name_or_path": "give it as model=...",
    "config": "give it to a call",
    "preset": "give it as config=completer.config(preset=...) of a call",
}
"""What to give in place of arguments that diffusers' `from_pretrained` has."""
_LOADING = (
    "model", "content_model", "method", "vae", "stages", "device", "dtype", "attention", "offload", "acceleration",
    "yes",
)  # fmt: skip


def refuse_unknown_loading(names: Iterable[str]) -> None:
    """Say what to give in place of an argument that loading does not have.

    Args:
        names: what was given.

    Raises:
        InputError: if there is a name.
    """
    for name in names:
        nearest = difflib.get_close_matches(name, _LOADING, n=1)
        meant = f"did you mean {nearest[0]}=...?" if nearest else f"expected {', '.join(_LOADING)}"
        raise InputError(f"{name}: unknown; {_ELSEWHERE.get(name, meant)}")


def check_stages(stages: object) -> None:
    """Check the stages that are to be loaded.

    Raises:
        InputError: if they are no stages, or none.
    """
    given = list(stages) if isinstance(stages, (list, tuple, set, frozenset)) else [stages]
    if not given or any(stage not in STAGES for stage in given):
        raise InputError(f"stages: expected one or both of {', '.join(STAGES)}, got {stages!r}")


def stage_config(
    pipeline: ConditionedVideoPipeline | None, preset: Preset | None, changes: dict[str, Any]
) -> SamplingConfig | None:
    """How a loaded stage is sampled, see :func:`stage_sampling`; its scheduler must have the noise levels too.

    Args:
        pipeline: the stage; None gives None.
        preset: as for :func:`stage_sampling`, like the following.
        changes: values by field name.

    Raises:
        InputError: as :func:`stage_sampling`.
    """
    if pipeline is None:
        return None
    config = stage_sampling(pipeline.settings, pipeline.vae, preset, changes)
    make_scheduler(
        pipeline.scheduler, scheduler=config.scheduler, sigma_min=config.sigma_min, sigma_max=config.sigma_max
    )
    return config


def stage_sampling(
    settings: CheckpointSettings, vae: Autoencoder, preset: Preset | None, changes: Mapping[str, Any]
) -> SamplingConfig:
    """How a stage is sampled: a preset of its checkpoint with the caller's changes.

    Args:
        settings: of the checkpoint.
        vae: its factor must divide height and width.
        preset: as for :meth:`AmodalCompleter.config`, like the following.
        changes: values by field name; None leaves a value as the preset has it.

    Raises:
        InputError: if there is no such preset or setting, or a value is out of range.
    """
    chosen = {name: value for name, value in changes.items() if value is not None}
    if preset is None and chosen.get("conditioning") == "released":
        preset = "paper"
    if "mask_threshold" in chosen:
        chosen.setdefault("expected_iou_weight", None)
    config = settings.preset(preset).changed(chosen)
    factor = spatial_factor(vae)
    for name in ("height", "width"):
        value = getattr(config, name)
        if value < factor or value % factor:
            raise InputError(f"{name}: expected a multiple of {factor}, got {value}")
    return config
