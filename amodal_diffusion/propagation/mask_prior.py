"""Temporal mask prior: the share of the other frames that show the object at each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.frames.crop import Geometry
from amodal_diffusion.frames.masks import bounds
from amodal_diffusion.frames.transforms import mask_to_unit, resize
from amodal_diffusion.propagation.motion import ObjectMotion, background_evidence, estimate_motion
from amodal_diffusion.propagation.placement import Placement, lattice, look_up, to_frame, to_object
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

MOTION_VERSION = 3
"""Version of the values of :func:`temporal_mask_prior`, for caches: raised when their computation changes."""
MEMORY = 10.0
"""Time constant in frames: the weight of another frame falls to 1/e at this distance."""
ELSEWHERE_WEIGHT = 0.5
"""Weight of a vote for background; a vote for the object has weight 1."""
CANVAS_CELLS = 321
"""Largest number of cells along a side of the canvas on which the frames are merged."""
_LITTLE = 0.3  # added to the votes, so that the prior is small where few frames have evidence


def mask_votes(modal: BoolArray, elsewhere: FloatArray, path: ObjectMotion, *, shown_alone: bool = False) -> FloatArray:
    """Count, at each pixel, the other frames that show the object and those that show background.

    Frames near in time count more: one at a distance of ``MEMORY`` counts 1/e.

    Args:
        modal: modal (visible) masks, bool ``[F, H, W]``.
        elsewhere: background evidence, float32 ``[F, H, W]`` in [0, 1].
        path: placements of the object.
        shown_alone: count only around what any frame shows of the object, which takes less time.

    Returns:
        float32 ``[F, 2, H, W]``, at least 0: votes for the object, then votes for background.
    """
    cells = min(2 * path.side + 1, CANVAS_CELLS)
    step = (2 * path.side + 1) / cells
    points = lattice(cells, step)
    views = np.stack(
        [
            look_up(np.stack([modal[at], elsewhere[at]]).astype(np.float32), *to_frame(path.placements[at], *points))
            for at in path.placed
        ]
    )  # [N, 2, cells, cells]
    shown = views[:, 0].max(axis=0)
    times = np.asarray(path.placed)
    votes = np.zeros((len(modal), 2, *modal.shape[1:]), dtype=np.float32)
    for frame, into in enumerate(votes):
        weights = np.exp(-np.abs(times - frame) / MEMORY) * (times != frame)
        merged = np.tensordot(weights.astype(np.float32), views, axes=1)  # [2, cells, cells]
        box = (slice(0, modal.shape[1]), slice(0, modal.shape[2]))
        if shown_alone:
            box = _box(shown, step, path.placements[frame], modal.shape[1:])
        rows, columns = (np.arange(part.start, part.stop, dtype=np.float64) for part in box)
        v, u = to_object(path.placements[frame], rows[:, None], columns)
        into[:, *box] = look_up(merged, v / step + cells // 2, u / step + cells // 2)
    return votes


def _box(shown: FloatArray, step: float, placement: Placement, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a frame in which the cells of a canvas that show the object lie."""
    spans = [np.array(span, dtype=np.float64) for span in bounds(shown)]
    corners = [(span + np.array([-1.5, 0.5]) - len(shown) // 2) * step for span in spans]
    placed = to_frame(placement, *np.meshgrid(*corners, indexing="ij"))
    low = [max(0, int(np.floor(line.min()))) for line in placed]
    high = [min(length, int(np.ceil(line.max())) + 1) for line, length in zip(placed, size, strict=True)]
    return slice(low[0], max(low[0], high[0])), slice(low[1], max(low[1], high[1]))


def temporal_mask_prior(rgb: UInt8Array, modal: BoolArray, depth: FloatArray | None) -> FloatArray:
    """The modal mask, with the prior from the other frames outside it.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: modal (visible) masks, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None without depth.

    Returns:
        float32 ``[F, H, W]`` in [-1, 1]: 1 where the object is visible; outside from -1, where no other frame shows it,
        to almost 0, where all do.
    """
    if not modal.any():
        return np.full(modal.shape, -1.0, dtype=np.float32)
    elsewhere = background_evidence(modal, depth)
    return _prior_along(modal, elsewhere, estimate_motion(rgb, modal, elsewhere))


def _prior_along(modal: BoolArray, elsewhere: FloatArray, path: ObjectMotion) -> FloatArray:
    """The prior where the object's motion is known."""
    votes = mask_votes(modal, elsewhere, path, shown_alone=True)
    seen, not_seen = votes[:, 0], votes[:, 1]
    share = seen / (seen + ELSEWHERE_WEIGHT * not_seen + _LITTLE)
    return np.where(modal, np.float32(1), share - 1).astype(np.float32)


_HIGHEST = -1e-3  # the prior stays below 0, so that the sign gives the modal mask


def apply_temporal_prior(
    rgb: UInt8Array, modal: BoolArray, depth: FloatArray | None, geometries: Sequence[Geometry], seen: Tensor
) -> Tensor:
    """Add the temporal mask prior to a modal mask that is already at the network's size.

    Motion is estimated in the frames, because crops move unevenly with the visible part. Where frames have more pixels
    than the network's input, the votes are counted in smaller ones.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: modal (visible) masks, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None without depth.
        geometries: mapping of each frame to the network input.
        seen: modal masks at the network's size, float ``[F, 1, h, w]``, -1 outside and 1 inside.

    Returns:
        float32 ``[F, 1, h, w]`` in [-1, 1]: 1 where the object is visible; outside below 0, see
        :func:`temporal_mask_prior`.
    """
    if not modal.any():
        return seen
    height, width = modal.shape[1:]
    scale = min(1.0, max(geometry.scale for geometry in geometries))
    elsewhere, small = background_evidence(modal, depth), modal
    path = estimate_motion(rgb, modal, elsewhere)
    if scale < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = np.concatenate([(resize(mask_to_unit(mask[None]), size) >= 0)[:, 0].numpy() for mask in modal])
        elsewhere = resize(torch.from_numpy(elsewhere)[:, None], size)[:, 0].numpy()
        path = path.scaled(scale)
    prior = np.where(small, np.float32(_HIGHEST), _prior_along(small, elsewhere, path))
    applied = []
    for geometry, frame in zip(geometries, torch.from_numpy(prior), strict=True):
        whole = resize(frame[None, None], (height, width)) if scale < 1 else frame[None, None]
        applied.append(geometry.apply(whole, -1.0))
    return torch.where(seen > 0, seen, torch.cat(applied).clamp(-1.0, _HIGHEST))
