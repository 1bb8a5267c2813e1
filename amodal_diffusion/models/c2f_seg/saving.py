"""A C2F-Seg checkpoint: ``checkpoint.json`` (method), ``config.json`` (shape, sampling), ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from amodal_diffusion.io.atomic import DIGESTS, find_damage, write_digests
from amodal_diffusion.models.c2f_seg.autoencoder import MaskAutoencoder
from amodal_diffusion.models.c2f_seg.config import AutoencoderConfig, C2FSampling, C2FSegConfig
from amodal_diffusion.models.c2f_seg.network import C2FSeg
from amodal_diffusion.models.checkpoint import FORMAT, SETTINGS_FILE
from amodal_diffusion.models.weights import load_strictly, read_json, read_state_dict
from amodal_diffusion.types import InputError

METHOD = "c2f-seg"
Part = Literal["model", "autoencoder"]
T = TypeVar("T")


def save_c2f_seg(model: C2FSeg, folder: Path, *, sampling: C2FSampling | None = None) -> None:
    """Write a model.

    Args:
        model: its weights are written in their dtype.
        folder: made if needed; must be empty or not exist.
        sampling: how the checkpoint is sampled by default.

    Raises:
        InputError: if the folder holds something already, or the disk is full.
    """
    config = {"networks": asdict(model.config), "sampling": asdict(sampling or C2FSampling())}
    _save(model, folder, part="model", config=config)


def load_c2f_seg(folder: Path) -> tuple[C2FSeg, C2FSampling]:
    """Load a model, in evaluation mode.

    Args:
        folder: as :func:`save_c2f_seg` writes it.

    Returns:
        the model, and how it is sampled by default.

    Raises:
        InputError: if the folder holds another method's checkpoint, or a file is missing, damaged or does not fit.
    """
    config = _open(folder, part="model")
    path = folder / "config.json"
    model = C2FSeg(from_json(C2FSegConfig, config.get("networks"), f"{path}: networks"))
    sampling = from_json(C2FSampling, config.get("sampling"), f"{path}: sampling")
    load_strictly(model, read_state_dict(folder, "model"), source=folder)
    model.eval()
    model.autoencoder.requires_grad_(requires_grad=False)
    return model, sampling


def save_autoencoder(autoencoder: MaskAutoencoder, folder: Path) -> None:
    """Write the mask autoencoder alone, for the training of the rest; arguments and errors as :func:`save_c2f_seg`."""
    _save(autoencoder, folder, part="autoencoder", config={"networks": asdict(autoencoder.config)})


def load_autoencoder(folder: Path) -> MaskAutoencoder:
    """Load a mask autoencoder; errors as :func:`load_c2f_seg`."""
    config = _open(folder, part="autoencoder")
    autoencoder = MaskAutoencoder(
        from_json(AutoencoderConfig, config.get("networks"), f"{folder / 'config.json'}: networks")
    )
    load_strictly(autoencoder, read_state_dict(folder, "model"), source=folder)
    return autoencoder.eval()


def from_json(cls: type[T], values: object, name: str) -> T:
    """Make a dataclass, and those in its fields, of a JSON object; lists become tuples.

    Args:
        cls: the dataclass.
        values: what `dataclasses.asdict` gave.
        name: of the object, for messages.

    Raises:
        InputError: if a key is unknown or a value wrong.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{name}: expected an object, got {type(values).__name__}")
    known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]  # both kinds of config are dataclasses
    unknown = sorted(values.keys() - known)
    if unknown:
        raise InputError(f"{name}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    hints = get_type_hints(cls)
    given: dict[str, Any] = {}
    for key, value in values.items():
        nested = hints[key]
        if is_dataclass(nested) and isinstance(nested, type):
            given[key] = from_json(nested, value, f"{name}.{key}")
        else:
            given[key] = tuple(value) if isinstance(value, list) else value
    try:
        return cls(**given)
    except (InputError, TypeError) as error:
        raise InputError(f"{name}: {error}") from error


def _save(network: nn.Module, folder: Path, *, part: Part, config: Mapping[str, object]) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty; choose another folder, nothing is overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    try:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise InputError(f"{folder}: cannot be written ({error}); make room and give the same command again") from error
    for name, values in ((SETTINGS_FILE, {"format": FORMAT, "method": METHOD, "part": part}), ("config.json", config)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    write_digests(folder)


def _open(folder: Path, *, part: Part) -> dict[str, object]:
    """Check that a folder holds a part of this method, undamaged; what its ``config.json`` says."""
    about = read_json(folder / SETTINGS_FILE)
    method = about.get("method", "diffusion" if "stage" in about else None)
    if method != METHOD:
        raise InputError(
            f"{folder}: holds a checkpoint of {method or 'an unknown method'}, not of {METHOD}"
            + (f"; --method {method} reads it" if method else "")
        )
    if about.get("format") != FORMAT:
        raise InputError(f"{folder}: format {about.get('format')}, this version of the package reads {FORMAT}")
    if about.get("part") != part:
        raise InputError(f"{folder}: holds the {about.get('part')} of {METHOD}, expected its {part}")
    damage = find_damage(folder, below=["model.safetensors"])
    if damage is not None:
        raise InputError(
            f"{folder}: {damage}; restore the file, or delete {folder / DIGESTS} if it was changed on purpose"
        )
    return read_json(folder / "config.json")
