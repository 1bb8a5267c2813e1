"""Fingerprints of networks: the same for the same weights, another for any other, also in a list of several."""

from __future__ import annotations

import torch

from amodal_diffusion.models.weights import fingerprint, joined_fingerprint
from tests.factories import tiny_unet, tiny_vae


def test_a_fingerprint_stands_for_weights() -> None:
    network, other = tiny_unet(), tiny_unet()
    assert fingerprint(network) == fingerprint(other)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(network) != fingerprint(other)


def test_several_networks_have_one_that_each_of_them_changes() -> None:
    unet, vae = tiny_unet(), tiny_vae()
    joined = joined_fingerprint([unet, vae])
    assert len(joined) == 64
    assert joined == joined_fingerprint([tiny_unet(), tiny_vae()])
    assert len({joined, joined_fingerprint([vae, unet]), joined_fingerprint([unet, tiny_vae(seed=1)])}) == 3
