"""A SAMEO checkpoint: ``checkpoint.json`` (method), ``config.json`` (shape, sampling, base), ``model.safetensors``.

Over a pretrained base the weights are those of the mask decoder alone; otherwise they are the whole network's.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.method_folder import digest_of_weights, from_json, open_method, write_method
from amodal_diffusion.models.sameo.config import SameoConfig, SameoSampling
from amodal_diffusion.models.sameo.network import Sameo
from amodal_diffusion.models.weights import load_strictly, read_state_dict

METHOD = "sameo"


def save_sameo(
    model: Sameo,
    folder: Path,
    *,
    sampling: SameoSampling | None = None,
    base: str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model.

    Args:
        model: the network.
        folder: made if needed; must be empty or not exist.
        sampling: how the checkpoint is sampled by default.
        base: folder of the pretrained weights under the trained decoder: only the decoder is written, with a digest of
            the frozen weights. None writes the whole network.
        dtype: of the written weights; None keeps theirs.

    Raises:
        InputError: if the folder holds something already, or the disk is full.
    """
    written = model.network if base is None else model.mask_decoder
    config = {
        "networks": asdict(model.config),
        "sampling": asdict(sampling or SameoSampling()),
        "base": None if base is None else {"source": str(base), "fingerprint": _frozen_digest(model)},
    }
    part = "model" if base is None else "decoder"
    write_method(folder, written.state_dict(), method=METHOD, part=part, config=config, dtype=dtype)


def load_sameo(folder: Path, *, base: Path | None = None) -> tuple[Sameo, SameoSampling]:
    """Load a model, in evaluation mode and in float32, whatever the file has.

    Args:
        folder: as :func:`save_sameo` writes it.
        base: where the pretrained weights are, if not where they were when the decoder was trained.

    Returns:
        the model, and how it is sampled by default.

    Raises:
        InputError: if the folder holds another method's checkpoint, or a file is missing, damaged or does not fit, or
            the base is missing or not the one that the decoder was trained on.
    """
    config = open_method(folder, method=METHOD, parts=("model", "decoder"))
    path = folder / "config.json"
    model = Sameo(from_json(SameoConfig, config.get("networks"), f"{path}: networks"))
    sampling = from_json(SameoSampling, config.get("sampling"), f"{path}: sampling")
    state = read_state_dict(folder, "model")
    under = config.get("base")
    if under is None:
        load_strictly(model.network, state, source=folder)
        model.train_parts("decoder")
        return model.float().eval(), sampling
    if not isinstance(under, dict) or not isinstance(under.get("source"), str):
        raise InputError(f"{path}: base: expected null, or source and fingerprint, got {under!r:.60}")
    source = base or Path(under["source"])
    if not source.is_dir():
        raise InputError(
            f"{folder}: holds a mask decoder alone; the pretrained weights below it are expected in {source}, which is "
            "no folder; download them there, or say where they are with base"
        )
    model.load_base(source)
    if _frozen_digest(model) != under.get("fingerprint"):
        raise InputError(f"{source}: not the pretrained weights that the decoder in {folder} was trained on")
    load_strictly(model.mask_decoder, state, source=folder)
    model.train_parts("decoder")
    return model.float().eval(), sampling


def _frozen_digest(model: Sameo) -> str:
    """Digest of all weights but the mask decoder's."""
    state = model.network.state_dict()
    return digest_of_weights({name: value for name, value in state.items() if not name.startswith("mask_decoder.")})
