"""A light autoencoder in place of a checkpoint's own, for the same latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.downloads import Wanted, fetch
from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.models.hub_ids import HubId
from amodal_diffusion.models.latents import autoencoder_class, spatial_factor
from amodal_diffusion.models.weights import read_json

LIGHT_VAES = {"tiny": ("madebyollin/taesd", "MIT")}
"""By short name, repository and license: a light autoencoder for the latents of Stable Video Diffusion."""


def locate_vae(name: str | Path) -> Path | Wanted:
    """Where a light autoencoder is, without asking the hub.

    Args:
        name: a folder, a hub id ``owner/name``, also with ``@REVISION``, or a name of :data:`LIGHT_VAES`.

    Raises:
        InputError: if it is none of these.
    """
    if Path(name).is_dir():
        return Path(name)
    repository, license_name = LIGHT_VAES.get(str(name), (None, None))
    hub_id = HubId.parse(name) if repository is None else HubId(repository)
    if hub_id is None:
        raise InputError(f"vae {name}: expected {', '.join(LIGHT_VAES)}, a folder or a hub id")
    return Wanted(hub_id, f"vae {name}", license=license_name)


def find_vae(name: str | Path, *, yes: bool = False) -> Path:
    """The folder of a light autoencoder, downloaded if it is not in the local cache yet.

    Args:
        name: as for :func:`locate_vae`.
        yes: download without asking.

    Raises:
        InputError: as :func:`locate_vae`, or if it cannot or may not be downloaded.
    """
    place = locate_vae(name)
    return place if isinstance(place, Path) else fetch([place], yes=yes)[place]


def load_light_vae(folder: Path, *, replaced: Path, dtype: torch.dtype) -> AutoencoderTiny:
    """Load a light autoencoder that encodes and decodes the latents of another one.

    A light autoencoder works on scaled latents, so it takes the scaling factor of the one that it replaces. Nothing in
    its files says for which latents it was trained; its effect on masks has to be measured.

    Args:
        folder: diffusers' folder of an ``AutoencoderTiny``.
        replaced: folder of the autoencoder that it replaces.
        dtype: of its weights.

    Raises:
        InputError: if it is another kind of autoencoder, its files are damaged, or its latents have another shape.
    """
    if autoencoder_class(read_json(folder / "config.json")) is not AutoencoderTiny:
        raise InputError(
            f"vae {folder}: expected an AutoencoderTiny, got another kind; leave out --vae, or name another"
        )
    vae = load_vae(folder, dtype=dtype)
    own: dict[str, Any] = read_json(replaced / "config.json")
    channels = own.get("latent_channels", 4)
    levels = own.get("block_out_channels") or own.get("encoder_block_out_channels") or ()
    factor = 2 ** (len(levels) - 1)
    if (vae.config.latent_channels, spatial_factor(vae)) != (channels, factor):
        raise InputError(
            f"vae {folder}: expected latents of {channels} channels at 1/{factor} of the size, as those of {replaced}, "
            f"got {vae.config.latent_channels} channels at 1/{spatial_factor(vae)}"
        )
    vae.register_to_config(scaling_factor=own.get("scaling_factor", 0.18215))
    return vae
