"""Amodal masks without learning: modal mask, convex hull, temporal alignment, and their combinations."""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.cuts import clip_cuts, shots_of
from amodal_diffusion.frames.masks import nearer_pixels
from amodal_diffusion.propagation.mask_prior import ELSEWHERE_WEIGHT, mask_votes
from amodal_diffusion.propagation.motion import background_evidence, estimate_motion
from amodal_diffusion.types import AmodalSegmenter, BoolArray, FloatArray, Segmentation, VideoClip

if TYPE_CHECKING:
    import torch


class ModalSegmenter:
    """Returns the modal mask: the lower bound of every comparison."""

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """See `AmodalSegmenter`."""
        return Segmentation.certain(clip.modal_mask.copy())


class HullSegmenter:
    """Returns the convex hull of the modal mask, frame by frame; a frame without a visible pixel stays empty."""

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """See `AmodalSegmenter`."""
        return Segmentation.certain(convex_hulls(clip.modal_mask))


def convex_hulls(masks: BoolArray) -> BoolArray:
    """The pixels whose centers lie in the convex hull of each frame's pixel centers, rim included.

    Args:
        masks: bool ``[F, H, W]``; a frame may be empty, one pixel or one line.

    Returns:
        bool ``[F, H, W]``; contains `masks`.
    """
    return np.stack([_hull(mask) for mask in masks]) if len(masks) else masks.copy()


def _hull(mask: BoolArray) -> BoolArray:
    filled = mask.copy()
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return filled
    # Only the first and last pixel of a row can be a corner of the hull.
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    inside = np.arange(rows[0], rows[-1] + 1)
    first = _chain(rows, left, inside, side=-1)
    last = _chain(rows, right, inside, side=1)
    columns = np.arange(mask.shape[1])
    # The tolerance keeps pixels on the rim, where interpolation may fall short by a rounding error.
    filled[inside] |= (columns >= first[:, None] - 1e-9) & (columns <= last[:, None] + 1e-9)
    return filled


def _chain(
    rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], at: npt.NDArray[np.int64], *, side: int
) -> npt.NDArray[np.float64]:
    """Column of the hull's left (``side`` -1) or right (1) rim in the rows ``at``: Andrew's monotone chain."""
    corners: list[tuple[int, int]] = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        while len(corners) > 1:
            (r0, c0), (r1, c1) = corners[-2:]
            if side * ((c1 - c0) * (row - r0) - (column - c0) * (r1 - r0)) > 0:
                break
            corners.pop()
        corners.append((row, column))
    return np.interp(at, [row for row, _ in corners], [column for _, column in corners])


class TemporalSegmenter:
    """Aligns all frames by the object's motion and adds the pixels that most of the other frames show.

    The motion is a shift, rotation and scale per frame. With depth, farther pixels outside of the modal mask are
    background and nearer ones may hide the object; without depth the two cannot be told apart.
    """

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """See `AmodalSegmenter`; only frames of one shot are aligned."""
        whole = clip.modal_mask.copy()
        for shot in starmap(slice, shots_of(clip.num_frames, clip_cuts(clip))):
            modal = clip.modal_mask[shot]
            if not modal.any():
                continue
            elsewhere = background_evidence(modal, None if depth is None else depth[shot])
            votes = mask_votes(modal, elsewhere, estimate_motion(clip.rgb[shot], modal, elsewhere))
            whole[shot] |= votes[:, 0] > ELSEWHERE_WEIGHT * votes[:, 1]
        return Segmentation.certain(whole)


class UnionSegmenter:
    """Returns the union of the modal mask and of what several segmenters return."""

    def __init__(self, *parts: AmodalSegmenter) -> None:
        """Take the segmenters to unite."""
        self._parts = parts

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """See `AmodalSegmenter`."""
        whole = clip.modal_mask.copy()
        for part in self._parts:
            whole |= part(clip, depth, generator=generator).mask
        return Segmentation.certain(whole)


class NearerSegmenter:
    """Restricts another segmenter to the modal mask and to pixels nearer than the object, which alone can hide it."""

    def __init__(self, inner: AmodalSegmenter) -> None:
        """Take the segmenter to restrict."""
        self._inner = inner

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """See `AmodalSegmenter`.

        Raises:
            InputError: if there is no depth.
        """
        if depth is None:
            raise InputError("depth: a baseline of nearer pixels needs depth, got none; give a depth source")
        inner = self._inner(clip, depth, generator=generator).mask
        return Segmentation.certain(clip.modal_mask | (inner & nearer_pixels(clip.modal_mask, depth)))
