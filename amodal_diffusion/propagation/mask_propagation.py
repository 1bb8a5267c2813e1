"""Mask propagation: hidden pixels that other frames show as the object, or as background, at the frames' resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from amodal_diffusion.frames.masks import bounds
from amodal_diffusion.propagation.colors import colors_along
from amodal_diffusion.propagation.mask_prior import ELSEWHERE_WEIGHT, mask_votes
from amodal_diffusion.propagation.motion import background_evidence, estimate_motion
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

AGREEMENT = 0.18
"""Error of propagated colors, as a share of that at which colors get half the weight, where a mask gets half of it.

A wrong shape is worse than a wrong color, and frames whose motion is found well agree far better than unrelated ones.
"""
FEW_VOTES = 0.3
"""Votes at which other frames get half of the weight that their agreement gives."""
EDGE = 2.0
"""Slope of the share at one half: votes are blurred by errors of the motion, and the edge of a mask is not."""
DEPTHLESS_WEIGHT = 0.25
"""Weight of a vote for background without depth, when any surrounding may hide the object; with depth it is
`ELSEWHERE_WEIGHT`. A vote for the object has weight 1."""
SAMPLES = 192
"""Points along the object's longest side at which frames are compared; the agreement is smooth, unlike the share."""
_LEAST_SHARE = 0.5  # of the votes; below it colors are not looked up, and the pixel counts as background


@dataclass(frozen=True)
class PropagatedMasks:
    """What other frames show of an object, at the size of the frames.

    Attributes:
        share: votes for the object, float32 ``[F, H, W]`` in [0, 1]: 0 where up to a quarter of them say so, 1
            where at least three quarters do.
        weight: how far the votes can be relied on, float32 ``[F, H, W]`` in [0, 1]; 0 where the object is visible.
    """

    share: FloatArray
    weight: FloatArray


def propagate_masks(rgb: UInt8Array, modal: BoolArray, depth: FloatArray | None) -> PropagatedMasks:
    """Find what other frames show at each pixel of a frame, and how well these frames predict the frame's own colors.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: modal (visible) masks, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None without depth, where frames vote for the object
            alone and for what surrounds it at random.
    """
    share, weight = (np.zeros(modal.shape, dtype=np.float32) for _ in range(2))
    if not modal.any():
        return PropagatedMasks(share, weight)
    elsewhere = background_evidence(modal, depth)
    path = estimate_motion(rgb, modal, elsewhere)
    votes = mask_votes(modal, elsewhere, path, shown_alone=depth is None)
    wanted = np.zeros_like(modal)
    for frame, (seen, not_seen) in enumerate(votes):
        rows, columns = (slice(*span) for span in bounds(seen + not_seen))
        against = not_seen[rows, columns] * (DEPTHLESS_WEIGHT if depth is None else ELSEWHERE_WEIGHT)
        ratio = seen[rows, columns] / np.maximum(seen[rows, columns] + against, 1e-6)
        share[frame, rows, columns] = (EDGE * (ratio - 0.5) + 0.5).clip(0, 1)
        wanted[frame, rows, columns] = (ratio > _LEAST_SHARE) & ~modal[frame, rows, columns]
    block = max(1, round(path.side / SAMPLES))
    sampled = _sampled(wanted, block)
    height, width = modal.shape[1:]
    down, across = (_centers(length, block)[np.arange(length) // block] for length in (height, width))
    for frame, colors in enumerate(colors_along(rgb, modal, sampled, path)):
        agreement, known = np.zeros((height, width), dtype=np.float32), wanted[frame]
        found = agreement[sampled[frame]] = _agreement(colors.sure)
        weight[frame, known] = agreement[down[:, None], across][known] * _counted(votes[frame][:, known])
        if depth is not None and len(found):  # background has no colors of the object to compare
            other = ~known & ~modal[frame]
            weight[frame, other] = np.median(found) * _counted(votes[frame][:, other])
    return PropagatedMasks(share, weight)


def _sampled(wanted: BoolArray, block: int) -> BoolArray:
    """The centers of the blocks of pixels in which any is wanted, bool ``[F, H, W]``."""
    rows, columns = (np.arange(0, length, block) for length in wanted.shape[1:])
    some = np.logical_or.reduceat(np.logical_or.reduceat(wanted, rows, axis=1), columns, axis=2)
    sampled = np.zeros_like(wanted)
    sampled[:, _centers(wanted.shape[1], block)[:, None], _centers(wanted.shape[2], block)] = some
    return sampled


def _centers(length: int, block: int) -> npt.NDArray[np.intp]:
    """Center of each block of a line; that of a last one that is cut off lies on the line."""
    return np.minimum(np.arange(0, length, block) + block // 2, length - 1)


def _counted(votes: FloatArray) -> FloatArray:
    """Weight of votes ``[2, n]`` by their number."""
    total = votes.sum(axis=0)
    return np.asarray(total / (total + FEW_VOTES), np.float32)


def _agreement(sure: FloatArray) -> FloatArray:
    """From the weight of propagated colors, 1 / (1 + ratio^4), to that of masks, 1 / (1 + (ratio / AGREEMENT)^4)."""
    return (sure / (sure + (1 - sure) / AGREEMENT**4)).astype(np.float32)
