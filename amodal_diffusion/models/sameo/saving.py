"""A SAMEO checkpoint: ``checkpoint.json`` (method), ``config.json`` (shape, sampling, base), ``model.safetensors``.

Over a pretrained base the weights are those of the mask decoder alone; otherwise they are the whole network's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from amodal_diffusion.io.atomic import DIGESTS, find_damage, write_digests
from amodal_diffusion.models.c2f_seg.saving import from_json
from amodal_diffusion.models.checkpoint import FORMAT, SETTINGS_FILE
from amodal_diffusion.models.sameo.config import SameoConfig, SameoSampling
from amodal_diffusion.models.sameo.network import Sameo
from amodal_diffusion.models.weights import load_strictly, read_json, read_state_dict
from amodal_diffusion.types import InputError

METHOD = "sameo"


def save_sameo(
    model: Sameo, folder: Path, *, sampling: SameoSampling | None = None, base: str | Path | None = None
) -> None:
    """Write a model.

    Args:
        model: its weights are written in their dtype.
        folder: made if needed; must be empty or not exist.
        sampling: how the checkpoint is sampled by default.
        base: folder of the pretrained weights under the trained decoder: only the decoder is written, with a digest of
            the frozen weights. None writes the whole network.

    Raises:
        InputError: if the folder holds something already, or the disk is full.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty; choose another folder, nothing is overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    part = model.network if base is None else model.mask_decoder
    state = {name: value.detach().cpu().clone().contiguous() for name, value in part.state_dict().items()}
    try:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise InputError(f"{folder}: cannot be written ({error}); make room and give the same command again") from error
    about = {"format": FORMAT, "method": METHOD, "part": "model" if base is None else "decoder"}
    config = {
        "networks": asdict(model.config),
        "sampling": asdict(sampling or SameoSampling()),
        "base": None if base is None else {"source": str(base), "fingerprint": _frozen_fingerprint(model)},
    }
    for name, values in ((SETTINGS_FILE, about), ("config.json", config)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    write_digests(folder)


def load_sameo(folder: Path, *, base: Path | None = None) -> tuple[Sameo, SameoSampling]:
    """Load a model, in evaluation mode.

    Args:
        folder: as :func:`save_sameo` writes it.
        base: where the pretrained weights are, if not where they were when the decoder was trained.

    Returns:
        the model, and how it is sampled by default.

    Raises:
        InputError: if the folder holds another method's checkpoint, or a file is missing, damaged or does not fit, or
            the base is missing or not the one that the decoder was trained on.
    """
    config = _open(folder)
    path = folder / "config.json"
    model = Sameo(from_json(SameoConfig, config.get("networks"), f"{path}: networks"))
    sampling = from_json(SameoSampling, config.get("sampling"), f"{path}: sampling")
    state = read_state_dict(folder, "model")
    under = config.get("base")
    if under is None:
        load_strictly(model.network, state, source=folder)
        model.train_parts("decoder")
        return model.eval(), sampling
    if not isinstance(under, dict) or not isinstance(under.get("source"), str):
        raise InputError(f"{path}: base: expected null, or source and fingerprint, got {under!r:.60}")
    source = base or Path(under["source"])
    if not source.is_dir():
        raise InputError(
            f"{folder}: holds a mask decoder alone; the pretrained weights below it are expected in {source}, which is "
            "no folder; download them there, or say where they are with base"
        )
    model.load_base(source)
    if _frozen_fingerprint(model) != under.get("fingerprint"):
        raise InputError(f"{source}: not the pretrained weights that the decoder in {folder} was trained on")
    load_strictly(model.mask_decoder, state, source=folder)
    model.train_parts("decoder")
    return model.eval(), sampling


def _frozen_fingerprint(model: Sameo) -> str:
    """SHA-256 of all weights but the mask decoder's, by name; 64 hex digits."""
    digest = hashlib.sha256()
    for name, value in sorted(model.network.state_dict().items()):
        if not name.startswith("mask_decoder."):
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _open(folder: Path) -> dict[str, object]:
    """Check that a folder holds this method's checkpoint, undamaged; what its ``config.json`` says."""
    about = read_json(folder / SETTINGS_FILE)
    method = about.get("method", "diffusion" if "stage" in about else None)
    if method != METHOD:
        raise InputError(
            f"{folder}: holds a checkpoint of {method or 'an unknown method'}, not of {METHOD}"
            + (f"; --method {method} reads it" if method else "")
        )
    if about.get("format") != FORMAT:
        raise InputError(f"{folder}: format {about.get('format')}, this version of the package reads {FORMAT}")
    damage = find_damage(folder, below=["model.safetensors"])
    if damage is not None:
        raise InputError(
            f"{folder}: {damage}; restore the file, or delete {folder / DIGESTS} if it was changed on purpose"
        )
    return read_json(folder / "config.json")
