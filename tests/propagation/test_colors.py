"""Hidden colors are those that other frames show, as far as these can be relied on."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.propagation.color_cells import ColorCells, place_finely
from amodal_diffusion.propagation.colors import HiddenColors, propagated_colors
from tests.propagation.moving import FRAMES, Moving, moving


def found_in(clip: Moving, *, with_depth: bool = True) -> list[HiddenColors]:
    found = propagated_colors(clip.rgb, clip.modal, clip.amodal, clip.depth if with_depth else None)
    kept = [colors for colors in found if colors is not None]
    assert len(kept) == FRAMES
    return kept


def error(clip: Moving, found: list[HiddenColors]) -> float:
    """Root of the mean squared error where any frame shows what is hidden, in gray levels."""
    wrong = [
        (colors.copied - clip.whole[frame][clip.hidden[frame]])[colors.sure > 0] for frame, colors in enumerate(found)
    ]
    return float(np.sqrt((np.concatenate(wrong) ** 2).mean()))


def spread(clip: Moving) -> float:
    """The same of the mean visible color."""
    mean = clip.rgb[clip.modal].mean(axis=0)
    return float(np.sqrt(((clip.whole[clip.hidden] - mean) ** 2).mean()))


@pytest.mark.parametrize("with_depth", [True, False])
def test_colors_that_other_frames_show_are_taken(with_depth: bool) -> None:
    clip = moving()
    found = found_in(clip, with_depth=with_depth)
    assert [len(colors.sure) for colors in found] == clip.hidden.sum(axis=(1, 2)).tolist()
    assert np.concatenate([colors.sure for colors in found]).mean() > 0.6
    assert error(clip, found) < 0.3 * spread(clip)


def test_a_change_of_brightness_is_made_up_for() -> None:
    clip = moving(brighter=6.0)
    assert error(clip, found_in(clip)) < 0.3 * spread(clip)


def test_colors_that_no_frame_shows_are_not_relied_on() -> None:
    clip = moving(step=0.0)  # the bar hides the same in every frame
    found = found_in(clip)
    sure = np.concatenate([colors.sure for colors in found])
    assert (sure == 0).mean() > 0.5


def test_colors_that_do_not_agree_are_not_relied_on() -> None:
    clip = moving()
    noise = np.random.default_rng(0).integers(0, 255, clip.rgb.shape, dtype=np.uint8)
    rgb = np.where(clip.modal[..., None], noise, clip.rgb)
    found = [entry for entry in propagated_colors(rgb, clip.modal, clip.amodal, clip.depth) if entry is not None]
    trusted = np.concatenate([colors.sure for colors in found_in(clip)]).mean()
    assert np.concatenate([colors.sure for colors in found]).mean() < 0.6 * trusted


def test_an_object_that_is_never_seen_has_no_colors() -> None:
    clip = moving()
    assert propagated_colors(clip.rgb, np.zeros_like(clip.modal), clip.amodal, None) == [None] * FRAMES


def test_a_frame_that_hides_nothing_has_no_colors() -> None:
    clip = moving()
    clip.amodal[2] = clip.modal[2]
    assert found_in(clip)[2].copied.shape == (0, 3)


def test_fading_goes_from_one_to_the_other() -> None:
    one, other = (HiddenColors(np.full((2, 3), v), np.full(2, v)) for v in (0.0, 1.0))
    assert one.faded(other, 0.25).copied == pytest.approx(0.25)
    assert one.faded(other, 0.25).sure == pytest.approx(0.25)


@pytest.mark.parametrize("side", [40, 250])
def test_placing_finely_finds_parts_of_a_pixel(side: int) -> None:
    clip = moving()
    off = np.random.default_rng(1).normal(size=(FRAMES, 4)) * [0.4, 0.4, 0.01, 0.02]
    cells = ColorCells.of(clip.rgb, clip.modal, side=side)
    found = place_finely(cells, clip.placements + off, range(FRAMES))
    # All frames may be off by the same: only how they lie to each other is told by what they show.
    wrong, before = (np.abs(values - values.mean(axis=0)).mean() for values in (found - clip.placements, off))
    assert cells.block == (1 if side == 40 else 3)
    assert wrong < (0.3 if side == 40 else 0.6) * before


def test_a_frame_that_shows_too_little_stays() -> None:
    clip = moving()
    clip.modal[3] = False
    cells = ColorCells.of(clip.rgb, clip.modal, side=40)
    found = place_finely(cells, clip.placements, range(FRAMES))
    assert found[3] == pytest.approx(clip.placements[3])


def test_a_strip_of_one_row_of_cells_is_no_error() -> None:
    rgb = np.full((2, 11, 600, 3), 90, dtype=np.uint8)
    modal = np.zeros((2, 11, 600), dtype=np.bool_)
    modal[:, :, 50:550] = True
    amodal = modal.copy()
    modal[1, :, 300:320] = False
    (_, found) = propagated_colors(rgb, modal, amodal, None)
    assert found is not None
    assert np.abs(found.copied - 90).max() < 1
