"""The visible mask as a network sees it, with what other frames show of the object in grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array
from amodal_diffusion.video.focus import CloseUp
from amodal_diffusion.video.frames import Letterbox, mask_to_unit, resize, to_uint8, to_unit
from amodal_diffusion.video.tracking.merging import show_other_frames

View = Letterbox | CloseUp
"""How a model looks at a frame."""
_HIGHEST = -1e-3  # what is not visible stays below 0, by which the visible part is told


def look_with_others(
    rgb: UInt8Array, modal: BoolArray, depth: FloatArray | None, views: Sequence[View], seen: Tensor
) -> Tensor:
    """See the visible mask through views of the frames, with what other frames show laid over it.

    The object is followed in the frames, not in the views: these move with what is visible of it, and so not evenly.
    Frames of more pixels than the views are scaled down before.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: visible part, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None for none.
        views: one a frame.
        seen: the visible mask seen through them, float ``[F, 1, h, w]``, -1 outside and 1 inside.

    Returns:
        float32 ``[F, 1, h, w]`` in [-1, 1]: 1 where the object is visible; elsewhere below 0, see
        :func:`~amodal_diffusion.video.tracking.merging.show_other_frames`.
    """
    height, width = modal.shape[1:]
    scale = min(1.0, max(view.scale for view in views))
    if scale < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        rgb = np.concatenate([to_uint8(resize(to_unit(frame[None]), size)) for frame in rgb])
        small = np.concatenate([(resize(mask_to_unit(mask[None]), size) >= 0)[:, 0].numpy() for mask in modal])
        depth = None if depth is None else resize(torch.from_numpy(depth)[:, None], size)[:, 0].numpy()
    else:
        small = modal
    shown = np.where(small, np.float32(_HIGHEST), show_other_frames(rgb, small, depth))
    looks = []
    for view, grey in zip(views, torch.from_numpy(shown), strict=True):
        whole = resize(grey[None, None], (height, width)) if scale < 1 else grey[None, None]
        looks.append(view.apply(whole, -1.0))
    return torch.where(seen > 0, seen, torch.cat(looks).clamp(-1.0, _HIGHEST))
