"""An S-AModal checkpoint: ``checkpoint.json`` (method), ``config.json`` (shape, sampling), ``model.safetensors``.

Beside a pretrained SAM the weights are those of adapters and mask decoder alone; ``config.json`` then names that SAM
and has a digest of its frozen weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from amodal_diffusion.io.atomic import DIGESTS, find_damage, write_digests
from amodal_diffusion.models.c2f_seg.saving import from_json
from amodal_diffusion.models.checkpoint import FORMAT, SETTINGS_FILE
from amodal_diffusion.models.s_amodal.config import SAModalConfig, SAModalSampling
from amodal_diffusion.models.s_amodal.network import SAModal
from amodal_diffusion.models.sam import load_sam
from amodal_diffusion.models.weights import check_keys, read_json, read_state_dict
from amodal_diffusion.types import InputError

METHOD = "s-amodal"


def save_s_amodal(
    model: SAModal, folder: Path, *, sam: str | Path | None = None, sampling: SAModalSampling | None = None
) -> None:
    """Write a model.

    Args:
        model: its weights are written in their dtype.
        folder: made if needed; must be empty or not exist.
        sam: folder or hub id of the pretrained SAM that the model was built on; its frozen weights are left out. None
            writes all weights.
        sampling: how the checkpoint is sampled by default.

    Raises:
        InputError: if the folder holds something already, or the disk is full.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty; choose another folder, nothing is overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    whole, trained = model.state_dict(), model.trained_state()
    written = whole if sam is None else trained
    base = None
    if sam is not None:
        frozen = {name: value for name, value in whole.items() if name not in trained}
        base = {"name": str(sam), "frozen_sha256": weights_digest(frozen)}
    config = {"networks": asdict(model.config), "sam": base, "sampling": asdict(sampling or SAModalSampling())}
    # SAM ties the positional embeddings of its encoders; safetensors wants a tensor for each name.
    state = {name: value.detach().cpu().clone().contiguous() for name, value in written.items()}
    try:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise InputError(f"{folder}: cannot be written ({error}); make room and give the same command again") from error
    for name, values in ((SETTINGS_FILE, {"format": FORMAT, "method": METHOD}), ("config.json", config)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    write_digests(folder)


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
    config = _open(folder)
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
        if weights_digest(frozen) != base["frozen_sha256"]:
            raise InputError(
                f"sam {sam or base['name']}: its weights differ from those that {folder} was trained on; give the SAM "
                "that it was trained on"
            )
    model.load_state_dict(state, strict=False)
    return model.eval(), sampling


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights by name, 64 hex digits."""
    result = hashlib.sha256()
    for name, value in sorted(state.items()):
        result.update(f"{name} {list(value.shape)}".encode())
        result.update(value.detach().float().cpu().contiguous().numpy().data)
    return result.hexdigest()


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
