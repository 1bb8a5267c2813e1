"""An S-AModal checkpoint: ``checkpoint.json`` (method), ``config.json`` (shape, sampling), ``model.safetensors``.

Beside a pretrained SAM the weights are those of adapters and mask decoder alone; ``config.json`` then names that SAM
and has a digest of its frozen weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.method_folder import digest_of_weights, from_json, open_method, write_method
from amodal_diffusion.models.s_amodal.config import SAModalConfig, SAModalSampling
from amodal_diffusion.models.s_amodal.network import SAModal
from amodal_diffusion.models.sam import load_sam
from amodal_diffusion.models.weights import check_keys, read_state_dict

METHOD = "s-amodal"


def save_s_amodal(
    model: SAModal,
    folder: Path,
    *,
    sam: str | Path | None = None,
    sampling: SAModalSampling | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model.

    Args:
        model: the networks.
        folder: made if needed; must be empty or not exist.
        sam: folder or hub id of the pretrained SAM that the model was built on; its frozen weights are left out. None
            writes all weights.
        sampling: how the checkpoint is sampled by default.
        dtype: of the written weights; None keeps theirs.

    Raises:
        InputError: if the folder holds something already, or the disk is full.
    """
    whole, trained = model.state_dict(), model.trained_state()
    written = whole if sam is None else trained
    base = None
    if sam is not None:
        frozen = {name: value for name, value in whole.items() if name not in trained}
        base = {"name": str(sam), "frozen_sha256": digest_of_weights(frozen)}
    config = {"networks": asdict(model.config), "sam": base, "sampling": asdict(sampling or SAModalSampling())}
    part = "model" if sam is None else "trained parts"
    write_method(folder, written, method=METHOD, part=part, config=config, dtype=dtype)


def load_s_amodal(
    folder: Path, *, sam: str | Path | None = None, download: bool = True, yes: bool = False
) -> tuple[SAModal, SAModalSampling]:
    """Load a model, in evaluation mode.

    Args:
        folder: as :func:`save_s_amodal` writes it.
        sam: folder or hub id of the pretrained SAM, if it is elsewhere than ``config.json`` says.
        download: False looks for a hub id in the local cache alone.
        yes: download the pretrained SAM without asking.

    Returns:
        the model, and how it is sampled by default.

    Raises:
        InputError: if the folder holds another method's checkpoint, a file is missing, damaged or does not fit, or the
            pretrained SAM is missing or another one.
    """
    config = open_method(folder, method=METHOD, parts=("model", "trained parts"))
    path = folder / "config.json"
    shape = from_json(SAModalConfig, config.get("networks"), f"{path}: networks")
    sampling = from_json(SAModalSampling, config.get("sampling"), f"{path}: sampling")
    base = config.get("sam")
    if base is not None and not (isinstance(base, Mapping) and {"name", "frozen_sha256"} <= base.keys()):
        raise InputError(f"{path}: sam: expected null, or an object with name and frozen_sha256; the file is damaged")
    pretrained = None if base is None else load_sam(sam or str(base["name"]), download=download, yes=yes)
    model = SAModal(shape, sam=pretrained)
    state, own = read_state_dict(folder, "model"), model.state_dict()
    wanted = own if base is None else model.trained_state()
    wrong = [name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape]
    check_keys(
        missing=wanted.keys() - state.keys(), unexpected=state.keys() - wanted.keys(), wrong=wrong, source=folder
    )
    if base is not None:
        frozen = {name: value for name, value in own.items() if name not in wanted}
        if digest_of_weights(frozen) != base["frozen_sha256"]:
            raise InputError(
                f"sam {sam or base['name']}: its weights differ from those that {folder} was trained on; give the SAM "
                "that it was trained on"
            )
    model.load_state_dict(state, strict=False)
    return model.eval(), sampling
