"""mIoU_occ by every published definition, on two tracks worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.metrics import PROTOCOLS, Published, PublishedPool, score_frames
from amodal_diffusion.types import BoolArray


def _frame(*boxes: tuple[int, int, int, int]) -> BoolArray:
    """A frame of 16 x 16 pixels, filled in boxes of first and last row and column."""
    mask = np.zeros((16, 16), dtype=np.bool_)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def _track(*frames: tuple[BoolArray, BoolArray, BoolArray]) -> tuple[BoolArray, BoolArray, BoolArray]:
    prediction, modal, amodal = (np.stack(part) for part in zip(*frames, strict=True))
    return prediction, modal, amodal


MODAL, WHOLE = _frame((0, 0, 16, 4)), _frame((0, 0, 16, 12))  # 16 x 8 pixels are hidden
HALF = _frame((0, 0, 16, 8))  # 16 x 4 of them
FIRST = _track(
    (HALF, MODAL, WHOLE),  # 1 / 2
    (MODAL, MODAL, MODAL),  # hides nothing
    (MODAL, MODAL, WHOLE),  # a complete miss
    (HALF, _frame(), WHOLE),  # shows nothing: 16 x 8 of 16 x 12
)
SECOND = _track((WHOLE, MODAL, WHOLE))  # all of it


def _scored(*tracks: tuple[BoolArray, BoolArray, BoolArray]) -> dict[Published, float]:
    pool = PublishedPool()
    for track in tracks:
        pool.add({protocol: score_frames(*track, protocol=protocol) for protocol in PROTOCOLS})
    return {name: pooled.value for name, pooled in pool.result().items()}


def test_by_hand_and_different_from_each_other() -> None:
    scored = _scored(FIRST, SECOND)
    assert scored["c2f_image"] == pytest.approx((1 / 2 + 0 + 2 / 3 + 1) / 4)
    assert scored["c2f_video"] == pytest.approx(((1 / 2 + 0 + 0) / 3 + 1) / 2)
    # Eroded at the inner edges only, as the image border does not erode: columns 6 to 9 of 6 to 5 are 0 of 4, which
    # is dropped with the miss; from columns 0 to 8 of 0 to 12 remain 6 of 10.
    hidden = [(6 - 4 - 2) / (10 - 4 - 2), (8 - 2) / (12 - 2), 1.0]
    kept = [value for value in hidden if value]
    assert scored["dvas"] == pytest.approx(sum(kept) / len(kept))
    assert len({round(value, 6) for value in scored.values()}) == 3


def test_a_frame_that_hides_nothing_counts_in_c2f_video_alone() -> None:
    hiding, open_ = (WHOLE, MODAL, WHOLE), (MODAL, MODAL, MODAL)
    alone, both = _scored(_track(hiding)), _scored(_track(hiding, open_))
    assert (both["c2f_image"], both["dvas"]) == (alone["c2f_image"], alone["dvas"]) == (1.0, 1.0)
    assert (alone["c2f_video"], both["c2f_video"]) == (1.0, 0.5)


def test_perfect_and_nothing_and_elsewhere() -> None:
    assert set(_scored(SECOND).values()) == {1.0}
    missed = _scored(_track((MODAL, MODAL, WHOLE)))
    assert (missed["c2f_image"], missed["c2f_video"]) == (0.0, 0.0)
    assert np.isnan(missed["dvas"])
