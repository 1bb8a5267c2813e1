"""What other frames show of an object, laid over each frame."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array
from amodal_diffusion.video.tracking.following import ObjectPath, elsewhere_of, follow_object
from amodal_diffusion.video.tracking.placement import lattice, look_up, to_frame, to_object

FOLLOWING_VERSION = 2
"""Of what :func:`show_other_frames` gives, for who keeps it: raised when following or merging changes."""
MEMORY = 10.0
"""After so many frames, what was seen counts about a third."""
ELSEWHERE_WEIGHT = 0.5
"""What a frame that says the object is not there counts, beside 1 for one that shows it."""
CANVAS_CELLS = 321
"""Cells a side, at most, of the picture that the frames are merged in."""
_LITTLE = 0.3  # what other frames say counts half where they say no more than this


def merged_votes(modal: BoolArray, elsewhere: FloatArray, path: ObjectPath) -> FloatArray:
    """How many of the other frames show the object at a pixel, and how many say that it is not there.

    Frames near in time count more: one at a distance of ``MEMORY`` counts 1/e.

    Args:
        modal: visible part, bool ``[F, H, W]``.
        elsewhere: how sure it is that the object is not there, float32 ``[F, H, W]`` in [0, 1].
        path: of the object.

    Returns:
        float32 ``[F, 2, H, W]``, at least 0.
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
    rows, columns = (np.arange(length, dtype=np.float64) for length in modal.shape[1:])
    times = np.asarray(path.placed)
    votes = np.empty((len(modal), 2, *modal.shape[1:]), dtype=np.float32)
    for frame, into in enumerate(votes):
        weights = np.exp(-np.abs(times - frame) / MEMORY) * (times != frame)
        merged = np.tensordot(weights.astype(np.float32), views, axes=1)  # [2, cells, cells]
        v, u = to_object(path.placements[frame], rows[:, None], columns)
        into[:] = look_up(merged, v / step + cells // 2, u / step + cells // 2)
    return votes


def show_other_frames(rgb: UInt8Array, modal: BoolArray, depth: FloatArray | None) -> FloatArray:
    """The visible mask, with what other frames show of the object laid over it in grey.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: visible part, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None for none.

    Returns:
        float32 ``[F, H, W]`` in [-1, 1]: 1 where the object is visible; elsewhere below 0, from -1 where no other
        frame shows it to almost 0 where all do.
    """
    if not modal.any():
        return np.full(modal.shape, -1.0, dtype=np.float32)
    elsewhere = elsewhere_of(modal, depth)
    votes = merged_votes(modal, elsewhere, follow_object(rgb, modal, elsewhere))
    seen, not_seen = votes[:, 0], votes[:, 1]
    share = seen / (seen + ELSEWHERE_WEIGHT * not_seen + _LITTLE)
    return np.where(modal, np.float32(1), share - 1).astype(np.float32)
