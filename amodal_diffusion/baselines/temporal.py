"""The baseline that follows the object through the clip and fills in what other frames have shown of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amodal_diffusion.baselines.evidence import ELSEWHERE, SEEN
from amodal_diffusion.baselines.placement import Placement, lattice, look_up, to_frame, to_object
from amodal_diffusion.baselines.registration import Aligner, Search
from amodal_diffusion.types import BoolArray, FloatArray, VideoClip
from amodal_diffusion.video.nearer import nearer_pixels

UNSEEN_IS_ELSEWHERE = 0.3
"""How sure it is that the object is not where it is not seen, if nothing is known about what may hide it."""
LEAST_SEEN = 0.02
"""Frames that show less of the object than this share of the best frame are placed by interpolation."""
MEMORY = 10.0
"""After so many frames, what was seen counts about a third."""
ELSEWHERE_WEIGHT = 0.5
"""What a frame that says the object is not there counts, beside 1 for one that shows it."""
COARSE_CELLS, FINE_CELLS, CANVAS_CELLS = 32, 64, 321
"""Cells that the object's side has while it is followed, while it is placed finely, and that the merged picture has."""
FOLLOW = Search(reach=0.35, turns=(-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3), scales=(-0.07, 0.0, 0.07))
AGAIN = Search(reach=0.2, turns=(-0.16, -0.08, 0.0, 0.08, 0.16), scales=(-0.05, 0.0, 0.05))
REFINE = (
    Search(reach=0.08, turns=(-0.05, 0.0, 0.05), scales=(-0.035, 0.0, 0.035)),
    Search(reach=0.06, turns=(-0.025, 0.0, 0.025), scales=(-0.02, 0.0, 0.02)),
)


class TemporalSegmenter:
    """Places the object in every frame by shift, turn and scale, and adds what most of the other frames show of it.

    It starts from the frame that shows most and works outwards, then places each frame again by what all the others
    show. With depth it knows where the object is not (farther pixels that are not its own) and where it may be hidden
    (nearer ones); without, it cannot tell these apart.
    """

    def __call__(self, clip: VideoClip, depth: FloatArray | None) -> BoolArray:
        """See `AmodalSegmenter`."""
        modal = clip.modal_mask
        if depth is None:
            elsewhere = np.where(modal, np.float32(0), np.float32(UNSEEN_IS_ELSEWHERE))
        else:
            elsewhere = (~modal & ~nearer_pixels(modal, depth)).astype(np.float32)
        side = _longest_side(modal)
        aligner = Aligner(clip.rgb, modal, elsewhere, side=side, cells=COARSE_CELLS)
        placements, placed = _follow(aligner, modal)
        aligner = Aligner(clip.rgb, modal, elsewhere, side=side, cells=FINE_CELLS)
        if len(placed) > 1:
            _refine(aligner, placements, placed, AGAIN, afresh=True)
            for search in REFINE:
                _refine(aligner, placements, placed, search)
        return _merge(modal, elsewhere, placements, placed, side=side)


def _longest_side(modal: BoolArray) -> int:
    """Longest side in pixels of the box around what a frame shows, over all frames."""
    shown = [np.flatnonzero(mask.any(axis=axis)) for mask in modal if mask.any() for axis in (0, 1)]
    return max(int(lines[-1] - lines[0]) for lines in shown) + 1


def _follow(aligner: Aligner, modal: BoolArray) -> tuple[Placement, list[int]]:
    """Place the object frame by frame, outwards from the one that shows most.

    Returns:
        placements ``[F, 4]``, and the numbers of the frames that show enough to be placed by it, in order.
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
    """Place each frame again by what all others show, near where it is or (``afresh``) near where they place it."""
    views = np.stack([aligner.view(frame, placements[frame]) for frame in placed])
    total = views.sum(axis=0)
    for frame, view in zip(placed, views, strict=True):
        expected = _expected(frame, placements, [at for at in placed if at != frame]) if afresh else placements[frame]
        placements[frame] = aligner.align(frame, _model(total - view), expected, search)
    _interpolate(placements, placed)


def _interpolate(placements: Placement, placed: Sequence[int]) -> None:
    """Place the frames that show too little."""
    for frame in set(range(len(placements))) - set(placed):
        placements[frame] = _expected(frame, placements, placed)


def _expected(frame: int, placements: Placement, placed: Sequence[int]) -> Placement:
    """Where the object should be: between the placed frames about this one, or on from the last two."""
    before, after = [at for at in placed if at < frame], [at for at in placed if at > frame]
    if before and after:
        share = (frame - before[-1]) / (after[0] - before[-1])
        return np.asarray((1 - share) * placements[before[-1]] + share * placements[after[0]])
    nearest = before[::-1] or after
    here = placements[nearest[0]]
    if len(nearest) == 1:
        return here.copy()
    pace = (here - placements[nearest[1]]) / (nearest[0] - nearest[1])
    pace[2:] *= 0.5  # a turn or a growth is less likely to go on than a path
    return np.asarray(here + pace * (frame - nearest[0]))


def _model(total: FloatArray) -> FloatArray:
    """Sums of evidence over frames ``[5, n, n]`` -> shares of the frames that say anything."""
    return np.asarray(total / np.maximum(total[SEEN] + total[ELSEWHERE], 1.0), dtype=np.float32)


def _merge(
    modal: BoolArray, elsewhere: FloatArray, placements: Placement, placed: Sequence[int], *, side: int
) -> BoolArray:
    """Add to each frame what the others show of the object, those near in time counting more."""
    cells = min(2 * side + 1, CANVAS_CELLS)
    step = (2 * side + 1) / cells
    points = lattice(cells, step)
    views = np.stack(
        [
            look_up(np.stack([modal[at], elsewhere[at]]).astype(np.float32), *to_frame(placements[at], *points))
            for at in placed
        ]
    )  # [N, 2, cells, cells]
    rows, columns = (np.arange(length, dtype=np.float64) for length in modal.shape[1:])
    times = np.asarray(placed)
    whole = modal.copy()
    for frame in range(len(whole)):
        weights = np.exp(-np.abs(times - frame) / MEMORY) * (times != frame)
        seen, not_seen = np.tensordot(weights.astype(np.float32), views, axes=1)
        shape = (seen > ELSEWHERE_WEIGHT * not_seen).astype(np.float32)
        v, u = to_object(placements[frame], rows[:, None], columns)
        whole[frame] |= look_up(shape[None], v / step + cells // 2, u / step + cells // 2)[0] > 0
    return whole
