"""A C2F-Seg checkpoint: ``checkpoint.json`` (method), ``config.json`` (shape, sampling), ``model.safetensors``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from amodal_diffusion.models.c2f_seg.autoencoder import MaskAutoencoder
from amodal_diffusion.models.c2f_seg.config import AutoencoderConfig, C2FSampling, C2FSegConfig
from amodal_diffusion.models.c2f_seg.network import C2FSeg
from amodal_diffusion.models.method_folder import from_json, open_method, write_method
from amodal_diffusion.models.weights import load_strictly, read_state_dict

METHOD = "c2f-seg"


def save_c2f_seg(
    model: C2FSeg, folder: Path, *, sampling: C2FSampling | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a model.

    Args:
        model: the networks.
        folder: made if needed; must be empty or not exist.
        sampling: how the checkpoint is sampled by default.
        dtype: of the written weights; None keeps theirs.

    Raises:
        InputError: if the folder holds something already, or the disk is full.
    """
    config = {"networks": asdict(model.config), "sampling": asdict(sampling or C2FSampling())}
    write_method(folder, model.state_dict(), method=METHOD, part="model", config=config, dtype=dtype)


def load_c2f_seg(folder: Path) -> tuple[C2FSeg, C2FSampling]:
    """Load a model, in evaluation mode and in float32, whatever the file has.

    Args:
        folder: as :func:`save_c2f_seg` writes it.

    Returns:
        the model, and how it is sampled by default.

    Raises:
        InputError: if the folder holds another method's checkpoint, or a file is missing, damaged or does not fit.
    """
    config = open_method(folder, method=METHOD, parts=("model",))
    path = folder / "config.json"
    model = C2FSeg(from_json(C2FSegConfig, config.get("networks"), f"{path}: networks"))
    sampling = from_json(C2FSampling, config.get("sampling"), f"{path}: sampling")
    load_strictly(model, read_state_dict(folder, "model"), source=folder)
    model.float().eval()
    model.autoencoder.requires_grad_(requires_grad=False)
    return model, sampling


def save_autoencoder(autoencoder: MaskAutoencoder, folder: Path) -> None:
    """Write the mask autoencoder alone, for the training of the rest; arguments and errors as :func:`save_c2f_seg`."""
    config = {"networks": asdict(autoencoder.config)}
    write_method(folder, autoencoder.state_dict(), method=METHOD, part="autoencoder", config=config)


def load_autoencoder(folder: Path) -> MaskAutoencoder:
    """Load a mask autoencoder; errors as :func:`load_c2f_seg`."""
    config = open_method(folder, method=METHOD, parts=("autoencoder",))
    autoencoder = MaskAutoencoder(
        from_json(AutoencoderConfig, config.get("networks"), f"{folder / 'config.json'}: networks")
    )
    load_strictly(autoencoder, read_state_dict(folder, "model"), source=folder)
    return autoencoder.float().eval()
