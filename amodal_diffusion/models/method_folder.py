"""Folder of another method's checkpoint: ``checkpoint.json`` (method), ``config.json``, ``model.safetensors``, digests.

C2F-Seg, S-AModal and SAMEO keep their checkpoints alike; what ``config.json`` says is each method's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import DIGESTS, find_damage, write_digests
from amodal_diffusion.models.checkpoint import FORMAT, SETTINGS_FILE
from amodal_diffusion.models.weights import read_json

T = TypeVar("T")
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


def write_method(
    folder: Path,
    state: Mapping[str, Tensor],
    *,
    method: str,
    part: str,
    config: Mapping[str, object],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a checkpoint.

    Args:
        folder: made if needed; must be empty or not exist.
        state: weights by name. Names may share a tensor: each gets a copy.
        method: name of the method, as ``--method`` takes it.
        part: what of the method the weights are, such as ``model``.
        config: shapes and sampling, as JSON values.
        dtype: of the written weights, not of counts; None keeps theirs.

    Raises:
        InputError: if the folder holds something already, or the disk is full.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty; choose another folder, nothing is overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    copies = {name: _copy(value, dtype) for name, value in state.items()}
    try:
        save_file(copies, folder / _WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:
        raise InputError(f"{folder}: cannot be written ({error}); make room and give the same command again") from error
    about = {"format": FORMAT, "method": method, "part": part}
    for name, values in ((SETTINGS_FILE, about), (_CONFIG, config)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    write_digests(folder)


def _copy(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    wanted = dtype if value.is_floating_point() else None
    return value.detach().to("cpu", wanted or value.dtype, copy=True).contiguous()


def open_method(folder: Path, *, method: str, parts: tuple[str, ...]) -> dict[str, Any]:
    """Check that a folder holds a checkpoint of a method, undamaged.

    Args:
        folder: as :func:`write_method` writes it.
        method: the method that is expected.
        parts: what of it may be there.

    Returns:
        what its ``config.json`` says.

    Raises:
        InputError: if the folder holds another method's checkpoint or another part, or a file is missing or damaged.
    """
    about = read_json(folder / SETTINGS_FILE)
    found = about.get("method", "diffusion" if "stage" in about else None)
    if found != method:
        raise InputError(
            f"{folder}: holds a checkpoint of {found or 'an unknown method'}, not of {method}"
            + (f"; --method {found} reads it" if found else "")
        )
    if about.get("format") != FORMAT:
        raise InputError(f"{folder}: format {about.get('format')}, this version of the package reads {FORMAT}")
    if about.get("part") not in parts:
        raise InputError(f"{folder}: holds the {about.get('part')} of {method}, expected its {' or '.join(parts)}")
    damage = find_damage(folder, below=[_WEIGHTS])
    if damage is not None:
        raise InputError(
            f"{folder}: {damage}; restore the file, or delete {folder / DIGESTS} if it was changed on purpose"
        )
    return read_json(folder / _CONFIG)


def digest_of_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights by name, shape and float32 value, 64 hex digits: it tells which pretrained weights they are.

    Args:
        state: the weights, of any floating dtype.
    """
    result = hashlib.sha256()
    for name, value in sorted(state.items()):
        result.update(f"{name} {list(value.shape)}".encode())
        result.update(value.detach().float().cpu().contiguous().numpy().data)
    return result.hexdigest()


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
