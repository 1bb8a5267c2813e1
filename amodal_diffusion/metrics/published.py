"""mIoU_occ by the names of the codes that published figures with it; they differ in what counts.

With A' the hidden part of the true amodal mask and P' that of the prediction, both without the modal mask:

- ``c2f_image``: mean over objects of single images. One without A' is left out, and a complete miss counts 0, which is
  what ``strict`` does; each frame of a clip is an image.
- ``c2f_video``: mean over the frames of a track that show the object, then over tracks. A frame without A' counts 0,
  whatever P' is there.
- ``dvas``: ``released``, a mean over frames. P' and A' are eroded by 5 x 5 pixels, and frames whose IoU is then below
  1e-6 are left out, complete misses among them.

The sources are ``utils/evaluation.py`` of C2F-Seg and the evaluation of Diffusion-VAS. C2F-Seg adds 1e-6 pixels to each
union, which changes no digit that is printed, and is not done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from amodal_diffusion.metrics.pooling import FramePool, Pooled, Values, mean_of
from amodal_diffusion.metrics.protocols import FrameScores, Protocol

Published = Literal["c2f_image", "c2f_video", "dvas"]
PUBLISHED: tuple[Published, ...] = get_args(Published)


class PublishedPool:
    """Pools mIoU_occ by every published definition, one track after another, in constant memory."""

    def __init__(self) -> None:
        """Start with no tracks."""
        self._pools = {name: FramePool() for name in PUBLISHED}

    def add(self, frames: Mapping[Protocol, FrameScores]) -> None:
        """Add a track.

        Args:
            frames: its scores in both protocols.
        """
        strict = frames["strict"]
        self._pools["c2f_image"].add(strict.occluded_iou)
        self._pools["c2f_video"].add(np.asarray([mean_of(visible_occluded_iou(strict))]))
        self._pools["dvas"].add(frames["released"].occluded_iou)

    def result(self) -> dict[Published, Pooled]:
        """The means so far; the ``frames`` of ``c2f_video`` are tracks."""
        return {name: pool.result() for name, pool in self._pools.items()}


def visible_occluded_iou(strict: FrameScores) -> Values:
    """IoU of the hidden part in frames that show the object, 0 where nothing is hidden, float64 ``[F]``.

    Args:
        strict: scores of a track in the protocol ``strict``.

    Returns:
        NaN in frames that show nothing of the object.
    """
    shows = ~np.isnan(strict.iou) & np.isnan(strict.hidden_iou)
    return np.where(shows, np.nan_to_num(strict.occluded_iou), np.nan)
