"""The baseline that fills each frame's convex hull of what can be seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from amodal_diffusion.types import BoolArray, FloatArray, VideoClip


class HullSegmenter:
    """Returns the convex hull of the modal mask, frame by frame; a frame that shows nothing stays empty."""

    def __call__(self, clip: VideoClip, depth: FloatArray | None) -> BoolArray:  # noqa: ARG002 (the protocol's)
        """See `AmodalSegmenter`."""
        return convex_hulls(clip.modal_mask)


def convex_hulls(masks: BoolArray) -> BoolArray:
    """The pixels whose centres lie in the convex hull of each frame's pixel centres, rim included.

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
