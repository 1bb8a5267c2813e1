"""The temporal mask prior on modal masks that are already cropped or letterboxed to the network's size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion.frames.crop import Geometry, ObjectCrop, crop_centers
from amodal_diffusion.frames.transforms import Letterbox, mask_to_unit
from amodal_diffusion.propagation.mask_prior import apply_temporal_prior, temporal_mask_prior
from amodal_diffusion.types import BoolArray
from tests.propagation.moving import moving


def at_network_size(geometries: list[Geometry], modal: BoolArray) -> torch.Tensor:
    resized = [geometry.apply(mask_to_unit(mask[None]), -1.0) for geometry, mask in zip(geometries, modal, strict=True)]
    return (torch.cat(resized) >= 0).float() * 2 - 1


def test_frames_at_their_own_size_get_the_prior_unchanged() -> None:
    clip = moving()
    size = clip.modal.shape[1:]
    geometries: list[Geometry] = [Letterbox(size, size)] * len(clip.modal)
    found = apply_temporal_prior(clip.rgb, clip.modal, clip.depth, geometries, at_network_size(geometries, clip.modal))
    plain = temporal_mask_prior(clip.rgb, clip.modal, clip.depth)
    assert found.shape == (len(clip.modal), 1, *size)
    np.testing.assert_allclose(found[:, 0].numpy(), np.where(clip.modal, 1, np.minimum(plain, -1e-3)), atol=1e-6)


@pytest.mark.parametrize("side", [16, 96])  # frames are scaled down before, or not
def test_crops_show_the_hidden_part_and_keep_the_visible_part(side: int) -> None:
    clip = moving()
    geometries: list[Geometry] = [
        ObjectCrop.around(center, clip.modal.shape[1:], (side, side), crop_scale=1.5)
        for center in crop_centers(clip.modal)
    ]
    assert (geometries[0].scale < 1) == (side == 16)
    seen = at_network_size(geometries, clip.modal)
    found = apply_temporal_prior(clip.rgb, clip.modal, clip.depth, geometries, seen)
    assert torch.equal(found > 0, seen > 0)
    assert -1 <= float(found.min()) < float(found[seen < 0].max()) < 0
    hidden = at_network_size(geometries, clip.amodal) - seen > 0
    assert float(found[hidden].mean()) > float(found[(seen < 0) & ~hidden].mean()) + 0.2
