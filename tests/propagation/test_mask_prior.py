"""The visible mask with what other frames show, through views of the frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion.frames.crop import ObjectCrop, follow
from amodal_diffusion.frames.transforms import Letterbox, mask_to_unit
from amodal_diffusion.propagation.mask_prior import View, apply_temporal_prior, temporal_mask_prior
from amodal_diffusion.types import BoolArray
from tests.propagation.moving import moving


def seen_through(views: list[View], modal: BoolArray) -> torch.Tensor:
    looks = [view.apply(mask_to_unit(mask[None]), -1.0) for view, mask in zip(views, modal, strict=True)]
    return (torch.cat(looks) >= 0).float() * 2 - 1


def test_whole_frames_of_their_own_size_are_as_they_are() -> None:
    clip = moving()
    size = clip.modal.shape[1:]
    views: list[View] = [Letterbox(size, size)] * len(clip.modal)
    found = apply_temporal_prior(clip.rgb, clip.modal, clip.depth, views, seen_through(views, clip.modal))
    plain = temporal_mask_prior(clip.rgb, clip.modal, clip.depth)
    assert found.shape == (len(clip.modal), 1, *size)
    np.testing.assert_allclose(found[:, 0].numpy(), np.where(clip.modal, 1, np.minimum(plain, -1e-3)), atol=1e-6)


@pytest.mark.parametrize("side", [16, 96])  # frames are scaled down before, or not
def test_close_ups_show_what_is_hidden_and_keep_the_visible_part(side: int) -> None:
    clip = moving()
    views: list[View] = [
        ObjectCrop.at(focus, clip.modal.shape[1:], (side, side), zoom=1.5) for focus in follow(clip.modal)
    ]
    assert (views[0].scale < 1) == (side == 16)
    seen = seen_through(views, clip.modal)
    found = apply_temporal_prior(clip.rgb, clip.modal, clip.depth, views, seen)
    assert torch.equal(found > 0, seen > 0)
    assert -1 <= float(found.min()) < float(found[seen < 0].max()) < 0
    hidden = seen_through(views, clip.amodal) - seen > 0
    assert float(found[hidden].mean()) > float(found[(seen < 0) & ~hidden].mean()) + 0.2
