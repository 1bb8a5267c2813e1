"""A canvas around the frame: where the input lies on it to the bit, and what its margins hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.canvas import MARGIN_GRAY, Canvas
from amodal_diffusion.io.depth_files import open_depth
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from tests.media import moving_disc, write_frames, write_masks

RGB, MASK = moving_disc(3, 24, 40)
INSIDE = np.s_[:, 6:30, 10:50]


@pytest.fixture
def clip(tmp_path: Path) -> ClipReader:
    return open_clip(write_frames(tmp_path / "frames", RGB))


def outside(array: np.ndarray) -> np.ndarray:
    """Values of the margins."""
    margins = np.ones(array.shape[:3], dtype=np.bool_)
    margins[INSIDE] = False
    return array[margins]


def test_a_clip_and_all_that_belongs_to_it(tmp_path: Path, clip: ClipReader) -> None:
    canvas = Canvas.around(clip, 0.25)
    assert (canvas.height, canvas.width, canvas.top, canvas.left) == (36, 60, 6, 10)
    placed = canvas.place_clip(clip)
    frames = np.stack(list(placed))
    assert frames.shape == (3, placed.height, placed.width, 3) == (3, 36, 60, 3)
    np.testing.assert_array_equal(frames[INSIDE], RGB)
    assert (outside(frames) == MARGIN_GRAY).all()
    for name in ("path", "num_frames", "fps", "positions", "timing", "pixel_aspect"):
        assert getattr(placed, name) == getattr(clip, name)

    track = canvas.place_masks(read_masks(write_masks(tmp_path / "masks", MASK))["1"])
    masks = np.stack(list(track))
    np.testing.assert_array_equal(masks[INSIDE], MASK)
    assert masks.sum() == MASK.sum()
    assert (track.height, track.width, track.areas) == (36, 60, tuple(MASK.sum(axis=(1, 2))))

    values = np.random.default_rng(0).random((3, 24, 40), dtype=np.float32)
    np.save(tmp_path / "depth.npy", values)
    depth = canvas.place_depth(open_depth(tmp_path / "depth.npy"))
    maps = np.stack(list(depth))
    np.testing.assert_array_equal(maps[INSIDE], values)
    (margin,) = set(outside(maps).tolist())
    assert values.max() < margin < values.max() + 0.1
    assert depth.limits == (values.min(), pytest.approx(margin))


def test_margins_are_nearer_than_flat_depth(tmp_path: Path, clip: ClipReader) -> None:
    np.save(tmp_path / "depth.npy", np.full((3, 24, 40), 7.0, np.float32))
    depth = Canvas.around(clip, 0.25).place_depth(open_depth(tmp_path / "depth.npy"))
    assert depth.limits == (7, 8)
    assert all((values.min(), values.max()) == (7, 8) for values in depth)


def test_what_has_the_canvas_size_stays_as_it_is(tmp_path: Path, clip: ClipReader) -> None:
    canvas = Canvas.around(clip, 0.25)
    placed = canvas.place_clip(clip)
    assert canvas.place_clip(placed) is placed
    wide = read_masks(write_masks(tmp_path / "masks", np.pad(MASK, ((0, 0), (6, 6), (10, 10)))))["1"]
    assert canvas.place_masks(wide) is wide
    assert Canvas.around(clip, 0).place_clip(clip) is clip


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_margins_that_are_refused(clip: ClipReader, share: float) -> None:
    with pytest.raises(InputError, match="--margin: expected 0 to 1"):
        Canvas.around(clip, share)


def test_margins_of_a_shot_are_nearer_than_that_shot(tmp_path: Path, clip: ClipReader) -> None:
    values = np.random.default_rng(0).random((3, 24, 40), dtype=np.float32)
    values[2] += 7
    np.save(tmp_path / "depth.npy", values)
    track, canvas = open_depth(tmp_path / "depth.npy"), Canvas.around(clip, 0.25)
    placed, alone = canvas.place_depth(track, cuts=[2]), canvas.place_depth(track)
    maps = np.stack(list(placed))
    assert len(set(outside(maps)[: maps[0].size].tolist())) <= 2
    for frame, part in ((0, values[:2]), (1, values[:2]), (2, values[2:])):
        assert maps[frame, 0, 0] == pytest.approx(part.max() + 0.02 * (part.max() - part.min()))
        assert placed.shot_limits([2])[frame] == (float(part.min()), pytest.approx(float(maps[frame, 0, 0])))
    assert alone.limits == (float(values.min()), pytest.approx(values.max() + 0.02 * (values.max() - values.min())))
