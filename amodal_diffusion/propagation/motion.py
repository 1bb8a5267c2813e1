"""Motion estimation: an object's placement (shift, rotation, scale) in every frame of a clip."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from amodal_diffusion.frames.masks import nearer_pixels
from amodal_diffusion.propagation.placement import Placement
from amodal_diffusion.propagation.registration import ELSEWHERE, SEEN, Aligner, Search, object_palette
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

UNSEEN_IS_ELSEWHERE = 0.3
"""Background evidence outside the modal mask without depth, which would tell what may hide the object."""
LEAST_SEEN = 0.02
"""Share of the largest visible area; the placement of frames that show less of the object is interpolated."""
COARSE_CELLS, FINE_CELLS = 32, 64
"""Cells along the object's longest side during tracking, and during refinement."""
FOLLOW = Search(reach=0.35, turns=(-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3), scales=(-0.07, 0.0, 0.07))
AGAIN = Search(reach=0.2, turns=(-0.16, -0.08, 0.0, 0.08, 0.16), scales=(-0.05, 0.0, 0.05))
REFINE = (
    Search(reach=0.08, turns=(-0.05, 0.0, 0.05), scales=(-0.035, 0.0, 0.035)),
    Search(reach=0.06, turns=(-0.025, 0.0, 0.025), scales=(-0.02, 0.0, 0.02)),
)

REMEMBERED = 32
"""Number of windows, of all objects, whose motion is kept."""
_remembered: dict[bytes, ObjectMotion] = {}
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class ObjectMotion:
    """Placements of an object in a clip.

    Attributes:
        placements: one for each frame, float64 ``[F, 4]``, see `placement`.
        placed: numbers of the frames that show enough of the object to be registered, ascending; the placements of
            the others are interpolated.
        side: longest side of the bounding box of the visible part, over all frames, in pixels.
    """

    placements: Placement
    placed: tuple[int, ...]
    side: int

    def scaled(self, scale: float) -> ObjectMotion:
        """The same in frames of ``scale`` times the size."""
        placements = self.placements.copy()
        placements[:, :2] = (placements[:, :2] + 0.5) * scale - 0.5
        return ObjectMotion(placements, self.placed, max(1, round(self.side * scale)))


def background_evidence(modal: BoolArray, depth: FloatArray | None) -> FloatArray:
    """Evidence that the object is not at a pixel, float32 ``[F, H, W]`` in [0, 1].

    It is 0 in the modal mask. Outside, with depth, it is 1 at pixels not nearer than the object and 0 at nearer pixels,
    which may hide it. Without depth, it is `UNSEEN_IS_ELSEWHERE` everywhere outside.

    Args:
        modal: modal (visible) masks, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None without depth.
    """
    if depth is None:
        return np.where(modal, np.float32(0), np.float32(UNSEEN_IS_ELSEWHERE))
    return (~modal & ~nearer_pixels(modal, depth)).astype(np.float32)


def estimate_motion(rgb: UInt8Array, modal: BoolArray, elsewhere: FloatArray) -> ObjectMotion:
    """Track an object outwards from the frame that shows most of it, then refine each placement by all other frames.

    Both stages ask for the motion in the same windows, so the last `REMEMBERED` results are kept by the digest of their
    arguments.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: modal (visible) masks, bool ``[F, H, W]``, not empty in every frame.
        elsewhere: background evidence from :func:`background_evidence`, float32 ``[F, H, W]``.
    """
    digest = hashlib.sha256(repr(rgb.shape).encode())
    for values in (rgb, modal, elsewhere):
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    key = digest.digest()
    with _lock:
        known = _remembered.get(key)
    if known is None:
        known = _estimated(rgb, modal, elsewhere)
        with _lock:
            _remembered[key] = known
            while len(_remembered) > REMEMBERED:
                del _remembered[next(iter(_remembered))]
    return known


def _estimated(rgb: UInt8Array, modal: BoolArray, elsewhere: FloatArray) -> ObjectMotion:
    side, palette = _longest_side(modal), object_palette(rgb, modal)
    aligner = Aligner(rgb, modal, elsewhere, side=side, cells=COARSE_CELLS, palette=palette)
    placements, placed = _follow(aligner, modal)
    if len(placed) > 1:
        aligner = Aligner(rgb, modal, elsewhere, side=side, cells=FINE_CELLS, palette=palette)
        _refine(aligner, placements, placed, AGAIN, afresh=True)
        for search in REFINE:
            _refine(aligner, placements, placed, search)
    return ObjectMotion(placements, tuple(placed), side)


def _longest_side(modal: BoolArray) -> int:
    """Longest side of the bounding box of the visible part, over all frames, in pixels."""
    shown = [np.flatnonzero(mask.any(axis=axis)) for mask in modal if mask.any() for axis in (0, 1)]
    return max(int(lines[-1] - lines[0]) for lines in shown) + 1


def _follow(aligner: Aligner, modal: BoolArray) -> tuple[Placement, list[int]]:
    """Place the object frame by frame, outwards from the frame that shows most of it.

    Returns:
        placements ``[F, 4]``, and the numbers of the frames that show enough to be registered, ascending.
    """
    area = modal.sum(axis=(1, 2))
    best = int(area.argmax())
    rows, columns = np.nonzero(modal[best])
    placements = np.zeros((len(modal), 4))
    placements[best, :2] = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    total = aligner.view(best, placements[best])
    placed = [best]
    shown = np.flatnonzero(area >= max(1.0, LEAST_SEEN * area[best])).tolist()
    for frame in sorted(set(shown) - {best}, key=lambda frame: (abs(frame - best), frame)):
        expected = _expected(frame, placements, sorted(placed))
        placements[frame] = aligner.align(frame, _model(total), expected, FOLLOW)
        total = total + aligner.view(frame, placements[frame])
        placed.append(frame)
    placed.sort()
    _interpolate(placements, placed)
    return placements, placed


def _refine(
    aligner: Aligner, placements: Placement, placed: Sequence[int], search: Search, *, afresh: bool = False
) -> None:
    """Register each frame with all others, starting at its placement or (``afresh``) at one predicted from theirs."""
    views = np.stack([aligner.view(frame, placements[frame]) for frame in placed])
    total = views.sum(axis=0)
    if afresh:  # each prediction takes the placements that are refined already
        for frame, view in zip(placed, views, strict=True):
            expected = _expected(frame, placements, [at for at in placed if at != frame])
            placements[frame] = aligner.align(frame, _model(total - view), expected, search)
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            found = threads.map(
                lambda frame, view: aligner.align(frame, _model(total - view), placements[frame], search), placed, views
            )
            placements[list(placed)] = list(found)
    _interpolate(placements, placed)


def _interpolate(placements: Placement, placed: Sequence[int]) -> None:
    """Interpolate the placements of the frames that were not registered."""
    for frame in set(range(len(placements))) - set(placed):
        placements[frame] = _expected(frame, placements, placed)


def _expected(frame: int, placements: Placement, placed: Sequence[int]) -> Placement:
    """Predict a placement: interpolate between the neighboring placed frames, or extrapolate from the nearest two."""
    before, after = [at for at in placed if at < frame], [at for at in placed if at > frame]
    if before and after:
        share = (frame - before[-1]) / (after[0] - before[-1])
        return np.asarray((1 - share) * placements[before[-1]] + share * placements[after[0]])
    nearest = before[::-1] or after
    here = placements[nearest[0]]
    if len(nearest) == 1:
        return np.array(here)
    pace = (here - placements[nearest[1]]) / (nearest[0] - nearest[1])
    pace[2:] *= 0.5  # rotation and growth are less likely to continue than translation
    onwards: Placement = here + pace * (frame - nearest[0])
    return onwards


def _model(total: FloatArray) -> FloatArray:
    """Sum of evidence over frames, ``[5, n, n]`` -> mean over the frames that have evidence at the cell."""
    return np.asarray(total / np.maximum(total[SEEN] + total[ELSEWHERE], 1.0), dtype=np.float32)
