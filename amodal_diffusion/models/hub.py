"""From a model's name, folder or hub id to its networks."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPVisionModelWithProjection

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.io.atomic import DIGESTS, find_damage
from amodal_diffusion.models.checkpoint import (
    FEW_STEPS,
    SETTINGS_FILE,
    CheckpointSettings,
    read_settings,
    released_settings,
)
from amodal_diffusion.models.downloads import Wanted, fetch
from amodal_diffusion.models.hub_ids import HubId, split_revision
from amodal_diffusion.models.latents import Autoencoder, autoencoder_class, autoencoder_dtype
from amodal_diffusion.models.unet import AMODAL_CHANNELS, STEM, load_amodal_unet, load_svd_unet
from amodal_diffusion.models.weights import (
    PICKLE_SUFFIXES,
    building,
    check_keys,
    check_layer_counts,
    find_variant,
    read_json,
    stored_shape,
)

PARTS = ("unet", "vae", "image_encoder", "scheduler")
SCHEDULERS = ("EulerDiscreteScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
DEPTH = "depth"
"""Folder of a depth network beside the stages of a model."""


@dataclass(frozen=True)
class ReleasedModel:
    """A model that is released as one repository a stage.

    Attributes:
        stages: repository of each stage.
        revision: a branch, a tag or a commit.
        license: what is known of the weights' license.
        depth_model: the depth network of stage 1, a name of :data:`DEPTH_MODELS`.
    """

    stages: Mapping[Stage, str]
    revision: str
    license: str
    depth_model: str


@dataclass(frozen=True)
class DepthModel:
    """A depth network that has a short name.

    Attributes:
        repository: on the hub.
        license: of its weights.
        parameters: about how many weights it has.
        notice: what a user should know before it is used.
    """

    repository: str
    license: str
    parameters: int
    notice: str | None = None


RELEASED = {
    "diffusion-vas": ReleasedModel(
        {
            "amodal_segmentation": "kaihuac/diffusion-vas-amodal-segmentation",
            "content_completion": "kaihuac/diffusion-vas-content-completion",
        },
        revision="main",
        license="derived from Stable Video Diffusion (terms of Stability AI) and SAIL-VOS (non-commercial)",
        depth_model="small",
    )
}
"""Names of released models."""
DEPTH_MODELS = {
    "small": DepthModel("depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0", 24_800_000),
    "large": DepthModel(
        "depth-anything/Depth-Anything-V2-Large-hf",
        "CC-BY-NC-4.0",
        335_300_000,
        notice="its license, CC-BY-NC-4.0, excludes commercial use; the paper used this network",
    ),
}
"""Short names of depth networks: Depth Anything V2."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageComponents:
    """The networks of one stage and how to sample them.

    Attributes:
        unet: 12 input channels.
        vae: the autoencoder of frames.
        image_encoder: makes the tokens.
        scheduler: any of :data:`SCHEDULERS`, with v-prediction and sigma_data 1.
        settings: stage, sampling defaults and presets, depth network.
    """

    unet: UNetSpatioTemporalConditionModel
    vae: Autoencoder
    image_encoder: CLIPVisionModelWithProjection
    scheduler: SchedulerMixin
    settings: CheckpointSettings


def bundled_models() -> dict[str, Path]:
    """Names and folders of the models that the package carries."""
    root = Path(str(files("amodal_diffusion") / "weights"))
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return {path.name: path for path in folders if any((path / stage).is_dir() for stage in STAGES)}


def find_model(
    name: str | Path, *, stage: Stage | None = None, download: bool = True, half: bool = True, yes: bool = False
) -> Path:
    """The folder of a model, downloaded if it is a hub id that is not in the local cache yet.

    Args:
        name: as for :func:`locate_model`.
        stage: which one is wanted of a name of :data:`RELEASED`.
        download: False looks for a hub id in the local cache alone.
        half: of a hub id, prefer the ``fp16`` variant of weights.
        yes: download without asking, see :func:`~amodal_diffusion.models.downloads.fetch`.

    Raises:
        InputError: if there is no such model; says what was looked for. Or if it cannot or may not be downloaded.
    """
    place = locate_model(name, stage=stage, half=half)
    return place if isinstance(place, Path) else fetch([place], yes=yes, download=download)[place]


def locate_model(name: str | Path, *, stage: Stage | None = None, half: bool = True) -> Path | Wanted:
    """Where a model is, without asking the hub.

    Args:
        name: a bundled name such as ``tiny``, a folder, a hub id ``owner/name``, or a name of :data:`RELEASED`; the
            latter two also with ``@REVISION``.
        stage: which one is wanted of a name of :data:`RELEASED`.
        half: of a hub id, prefer the ``fp16`` variant of weights.

    Returns:
        its folder, or the files of the hub that are wanted.

    Raises:
        InputError: if there is no such model; says what was looked for.
    """
    bundled = bundled_models()
    if str(name) in bundled:
        return bundled[str(name)]
    if Path(name).is_dir():
        return Path(name)
    known = f"bundled are: {', '.join(bundled) or 'none'}; released is: {', '.join(RELEASED)}"
    if Path(name).is_file():
        pickle = "; pickle files can run code and are never loaded" if Path(name).suffix in PICKLE_SUFFIXES else ""
        raise InputError(f"model {name}: is a file, expected a folder with {', '.join(PARTS)}{pickle}")
    released = find_released(name)
    hub_id = HubId.parse(name)
    if released is not None:
        repositories = released.stages
        if stage is None:
            raise InputError(f"model {name}: names one checkpoint a stage; name {' or '.join(repositories.values())}")
        hub_id = HubId(repositories[stage], released.revision)
    if hub_id is None:
        near = difflib.get_close_matches(str(name), [*bundled, *RELEASED], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"model {name}: no bundled model, folder or hub id of this name; {hint}{known}")
    licenses = [entry.license for entry in RELEASED.values() if hub_id.repository in entry.stages.values()]
    return Wanted(hub_id, f"model {name}", license=next(iter(licenses), None), half=half, asked=str(name))


def find_released(name: str | Path) -> ReleasedModel | None:
    """The entry of :data:`RELEASED` that a name means, at the revision that it names; None if it is another name."""
    short, revision = split_revision(name) or ("", None)
    if short not in RELEASED or Path(name).is_dir():
        return None
    return replace(RELEASED[short], revision=revision or RELEASED[short].revision)


def released_stage(repository: str) -> Stage | None:
    """The stage that a repository of :data:`RELEASED` is for; None if it is none of them."""
    stages = (pair for model in RELEASED.values() for pair in model.stages.items())
    return next((stage for stage, known in stages if known == repository), None)


def locate_depth(name: str | Path) -> Path | Wanted:
    """Where a depth network is, without asking the hub.

    Args:
        name: a folder, a hub id ``owner/name``, also with ``@REVISION``, or a name of :data:`DEPTH_MODELS`.

    Raises:
        InputError: if it is none of these.
    """
    if Path(name).is_dir():
        return Path(name)
    known = DEPTH_MODELS.get(str(name))
    hub_id = HubId.parse(name) if known is None else HubId(known.repository)
    if hub_id is None:
        raise InputError(f"depth model {name}: expected {', '.join(DEPTH_MODELS)}, a folder or a hub id")
    licenses = [entry.license for entry in DEPTH_MODELS.values() if entry.repository == hub_id.repository]
    return Wanted(hub_id, f"depth model {name}", license=next(iter(licenses), None))


def say_depth_license(name: str | Path) -> None:
    """Log the notice that :data:`DEPTH_MODELS` has on a depth network, if any.

    Args:
        name: as for :func:`locate_depth`.
    """
    place = locate_depth(name)
    for entry in DEPTH_MODELS.values():
        if isinstance(place, Wanted) and place.hub_id.repository == entry.repository and entry.notice:
            logger.warning("depth model %s: %s", entry.repository, entry.notice)


def stage_folder(model: Path, stage: Stage) -> Path | None:
    """Where a model keeps one stage: a subfolder named after it, or the model's own folder.

    Returns:
        None if the model has only the other stage.
    """
    if (model / stage).is_dir():
        return model / stage
    if any((model / other).is_dir() for other in STAGES):
        return None
    if (model / SETTINGS_FILE).is_file() and read_settings(model).stage != stage:
        return None
    return model


def part_folder(folder: Path, name: str) -> Path:
    """Where a checkpoint keeps a part such as ``unet``: in a stage's own folder, or beside its stages.

    Args:
        folder: of a stage.
        name: one of :data:`PARTS`.

    Raises:
        InputError: if it is in neither place.
    """
    shared = [folder.parent / name] if folder.name in STAGES else []
    for candidate in (folder / name, *shared):
        if candidate.is_dir():
            return candidate
    raise InputError(
        f"{folder}: no {name}/ here or one folder up; a checkpoint has {', '.join(PARTS)}, found {_content(folder)}"
    )


def check_names_stages(model: Path) -> None:
    """Refuse to take a folder that does not say its stage, as the released ones do not, for both.

    Args:
        model: folder of a model.

    Raises:
        InputError: if neither subfolders nor ``checkpoint.json`` tell the stages of a model.
    """
    if not any((model / stage).is_dir() for stage in STAGES) and not (model / SETTINGS_FILE).is_file():
        raise InputError(
            f"{model}: does not say which stage it is for, so it cannot be both; name the other stage's model "
            "(--content-model), or ask for one stage (--stages masks, or --amodal-masks)"
        )


def load_stage(
    name: str | Path,
    *,
    stage: Stage,
    dtype: torch.dtype = torch.float32,
    loaded: Mapping[str, Any] | None = None,
) -> StageComponents:
    """Load one stage from a checkpoint in this package's layout or in the released one.

    Args:
        name: as for :func:`find_model`.
        stage: which stage to load.
        dtype: dtype of UNet and image encoder; the VAE stays float32 under float16 if its settings ask for it.
        loaded: networks of another stage to use in place of the files, by part (``vae``, ``image_encoder``); see
            :func:`~amodal_diffusion.models.stages.load_stages`.

    Raises:
        InputError: if a part is missing, is a pickle, or does not fit; lists what was looked for and found.
    """
    model = find_model(name, stage=stage)
    folder = stage_folder(model, stage)
    if folder is None:
        other = "; name another with --content-model, or ask for --stages masks" if stage == STAGES[1] else ""
        raise InputError(f"{model}: holds no {stage} stage; found {_content(model)}{other}")
    _check_digests(folder)
    frozen = dict(loaded or {})
    for part, load in {"vae": load_vae, "image_encoder": load_image_encoder}.items():
        if part not in frozen:
            frozen[part] = load(part_folder(folder, part), dtype=dtype)
    return StageComponents(
        **frozen,
        unet=load_amodal_unet(part_folder(folder, "unet"), dtype=dtype),
        scheduler=load_scheduler(part_folder(folder, "scheduler")),
        settings=stage_settings(folder, stage),
    )


def _check_digests(folder: Path) -> None:
    """Compare the networks of a stage with the digests that were written with them, if they were.

    ``checkpoint.json`` is not compared: its settings are there to be edited.

    Raises:
        InputError: if a file is missing or is not what was written.
    """
    used = [part_folder(folder, name) for name in PARTS]
    for root in (folder, folder.parent) if folder.name in STAGES else (folder,):
        below = [path.relative_to(root).as_posix() for path in used if path.is_relative_to(root)]
        damage = find_damage(root, below=below)
        if damage is not None:
            raise InputError(
                f"{root}: {damage}; restore the file, or delete {root / DIGESTS} if it was changed on purpose"
            )


def stage_settings(folder: Path, stage: Stage) -> CheckpointSettings:
    """What a stage's folder says of itself; without ``checkpoint.json`` its layout decides.

    Args:
        folder: of the stage, with its ``unet``.
        stage: which stage it is used for.

    Raises:
        InputError: if ``checkpoint.json`` cannot be read.
    """
    if (folder / SETTINGS_FILE).is_file():
        settings = read_settings(folder)
    else:
        channels = read_json(part_folder(folder, "unet") / "config.json").get("in_channels")
        if channels != AMODAL_CHANNELS:  # the released layout says 8 and holds conv_in2 with 12, see load_amodal_unet
            settings = settings_of_released(stage)
        else:
            settings = CheckpointSettings(stage, presets=FEW_STEPS)
    for beside in (folder / DEPTH, folder.parent / DEPTH):
        if stage == "amodal_segmentation" and (beside / "config.json").is_file():
            return replace(settings, depth_model=str(beside))
    return settings


def settings_of_released(stage: Stage) -> CheckpointSettings:
    """The ``checkpoint.json`` of a released checkpoint, which brings none: the paper's inference and depth network."""
    depth = DEPTH_MODELS[RELEASED["diffusion-vas"].depth_model].repository
    return replace(released_settings(stage), depth_model=depth if stage == "amodal_segmentation" else None)


def has_released_layout(folder: Path) -> bool:
    """Whether a folder holds a checkpoint in the released layout: ``conv_in2`` with 12 inputs in its UNet.

    Args:
        folder: of a stage.

    Raises:
        InputError: if the UNet's weights are missing or damaged.
    """
    shape = stored_shape(part_folder(folder, "unet"), STEM, "conv_in2.weight")
    return shape is not None and shape[1] == AMODAL_CHANNELS


def load_svd(name: str | Path, *, stage: Stage, dtype: torch.dtype = torch.float32) -> StageComponents:
    """Load a plain Stable Video Diffusion folder to train from, its UNet inflated to 12 channels.

    Args:
        name: as for :func:`find_model`.
        stage: the stage it is going to be trained for.
        dtype: as for :func:`load_stage`.

    Raises:
        InputError: as :func:`load_stage`.
    """
    folder = find_model(name, half=False)
    return StageComponents(
        unet=load_svd_unet(part_folder(folder, "unet"), dtype=dtype),
        vae=load_vae(part_folder(folder, "vae"), dtype=dtype),
        image_encoder=load_image_encoder(part_folder(folder, "image_encoder"), dtype=dtype),
        scheduler=load_scheduler(part_folder(folder, "scheduler")),
        settings=CheckpointSettings(stage),
    )


def load_vae(folder: Path, *, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """Load the autoencoder, a light one too, in float32 where float16 was asked but its settings say ``force_upcast``.

    Raises:
        InputError: if weights are missing or do not fit.
    """
    config = read_json(folder / "config.json")
    check_layer_counts(config, folder)
    dtype = autoencoder_dtype(config, dtype)
    vae = _from_pretrained(autoencoder_class(config), folder, find_variant(folder, STEM), torch_dtype=dtype)
    return vae.eval().requires_grad_(False)


def load_image_encoder(folder: Path, *, dtype: torch.dtype = torch.float32) -> CLIPVisionModelWithProjection:
    """Load the CLIP image encoder.

    Raises:
        InputError: if weights are missing or do not fit.
    """
    check_layer_counts(read_json(folder / "config.json"), folder)
    encoder = _from_pretrained(CLIPVisionModelWithProjection, folder, find_variant(folder, "model"), dtype=dtype)
    return encoder.eval().requires_grad_(False)


def load_scheduler(folder: Path) -> SchedulerMixin:
    """Load the sampler that ``scheduler_config.json`` names.

    Raises:
        InputError: if it is none of :data:`SCHEDULERS` or does not use this package's preconditioning.
    """
    config = read_json(folder / "scheduler_config.json")
    name = str(config.get("_class_name"))
    if name not in SCHEDULERS:
        raise InputError(f"{folder}: scheduler {name}; expected one of {', '.join(SCHEDULERS)}")
    cls = getattr(diffusers, name)
    with building(folder, cls):
        scheduler: SchedulerMixin = cls.from_config(config)
    # The Euler scheduler has no sigma_data, and is at 1; the EDM schedulers' default is 0.5.
    if scheduler.config.prediction_type != "v_prediction" or scheduler.config.get("sigma_data", 1.0) != 1.0:
        raise InputError(f"{folder}: expected prediction_type v_prediction and sigma_data 1.0, as trained")
    return scheduler


def _content(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"


def _from_pretrained(cls: Any, folder: Path, variant: str | None, **dtype: torch.dtype) -> Any:  # noqa: ANN401
    with building(folder, cls):
        network, report = cls.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **dtype,
        )
    check_keys(
        missing=report.get("missing_keys", []),
        unexpected=report.get("unexpected_keys", []),
        wrong=[str(entry[0]) for entry in report.get("mismatched_keys", [])],
        source=folder,
    )
    return network
