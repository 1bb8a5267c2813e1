"""Hard cuts by color histograms: what is one, what only looks like one, and that a frame at a time suffices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames import cuts
from amodal_diffusion.frames.cuts import CutDetector, clip_cuts, find_cuts, shots_of
from amodal_diffusion.types import VideoClip

Frames = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 48, 96


def shot(seed: int, frames: int = 12, *, speed: int = 1, wide: int = 800) -> Frames:
    """A camera that moves ``speed`` pixels a frame over a picture of smooth random colors, with sensor noise."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (7, wide // 12 + 2, 3))
    picture = np.kron(cells, np.ones((8, 12, 1)))
    for axis in (0, 1):
        picture = sum(np.roll(picture, step, axis=axis) for step in range(-3, 4)) / 7
    found = np.stack([picture[:HEIGHT, at * speed : at * speed + WIDTH] for at in range(frames)])
    return (found + rng.normal(0, 2, found.shape)).clip(0, 255).astype(np.uint8)


def mixed(one: Frames, other: Frames, share: float) -> Frames:
    return np.rint(one * (1 - share) + other * share).astype(np.uint8)


@pytest.mark.parametrize("lengths", [(12, 12), (2, 9), (9, 1), (1, 1), (5, 2, 6), (6, 4, 5, 8), (7, 1, 7)])
@pytest.mark.parametrize("seed", [0, 10])
def test_joined_shots_are_found_at_their_first_frames(lengths: tuple[int, ...], seed: int) -> None:
    parts = [shot(seed + number, length) for number, length in enumerate(lengths)]
    assert find_cuts(np.concatenate(parts)) == tuple(np.cumsum(lengths)[:-1])


def test_a_frame_at_a_time_and_few_are_held() -> None:
    detector = CutDetector()
    for frame in np.concatenate([shot(0, 30), shot(1, 30)]):
        detector.add(frame)
        assert len(detector._near) <= 2 * cuts.NEAR
    assert detector.finish() == (30,)
    assert CutDetector().finish() == find_cuts(shot(0, 1)) == ()


@pytest.mark.parametrize("seed", range(4))
def test_a_flash_is_no_cut(seed: int) -> None:
    for length in (1, 2, 3):
        for level in (0, 255):
            for at in (1, 5, 8):
                frames = shot(seed).copy()
                frames[at : at + length] = level
                assert find_cuts(frames) == ()
        half = shot(seed).copy()
        half[5 : 5 + length] = mixed(half[5 : 5 + length], np.full_like(half[:1], 255), 0.6)
        assert find_cuts(half) == ()


def test_a_flash_beside_a_cut_hides_it_not() -> None:
    for at in (10, 13):
        frames = np.concatenate([shot(0), shot(1)])
        frames[at] = 255
        assert find_cuts(frames) == (12,)


@pytest.mark.parametrize("steps", [6, 8, 16])
@pytest.mark.parametrize("seed", range(3))
def test_a_fade_is_no_cut(steps: int, seed: int) -> None:
    one, other = shot(seed, 24), shot(seed + 10, 24)
    for target in (np.zeros_like(one), np.full_like(one, 255), other):
        shares = ((np.arange(24) - 4) / steps).clip(0, 1)
        assert find_cuts([mixed(*pair) for pair in zip(one, target, shares, strict=True)]) == ()
        assert find_cuts([mixed(*pair) for pair in zip(target, one, shares, strict=True)]) == ()


@pytest.mark.parametrize("speed", [2, 10, 30])
@pytest.mark.parametrize("seed", range(3))
def test_a_pan_is_no_cut(speed: int, seed: int) -> None:
    assert find_cuts(shot(seed, 20, speed=speed)) == ()


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_an_object_that_comes_close_is_no_cut(frames: int) -> None:
    clip = shot(0).copy()
    for number in range(5, 12):
        covered = int(0.7 * WIDTH * min(1, (number - 4) / frames))
        clip[number, :, :covered] = (200, 40, 30)
    assert find_cuts(clip) == ()


def test_bars_beside_the_picture_hide_no_cut() -> None:
    clip = np.concatenate([shot(0), shot(1)])
    for top, left in ((8, 0), (0, 90)):  # of cinema, and of a telephone held upright
        sides = ((0, 0), (top, top), (left, left), (0, 0))
        assert find_cuts(np.pad(clip, sides, constant_values=16)) == (12,)
    assert find_cuts(np.zeros((9, HEIGHT, WIDTH, 3), np.uint8)) == ()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 300), (540, 4)])
def test_any_size(size: tuple[int, int]) -> None:
    dark, bright = np.full((5, *size, 3), 40, np.uint8), np.full((5, *size, 3), 220, np.uint8)
    assert find_cuts(np.concatenate([dark, bright])) == (5,)
    assert find_cuts(np.concatenate([dark, dark])) == ()


def test_shots_and_the_cuts_of_a_clip() -> None:
    assert shots_of(9, ()) == [(0, 9)]
    assert shots_of(9, (2, 8)) == [(0, 2), (2, 8), (8, 9)]
    frames = np.concatenate([shot(0, 5), shot(1, 5)])
    masks = np.ones(frames.shape[:3], np.bool_)
    assert clip_cuts(VideoClip(frames, masks)) == (5,)
    assert clip_cuts(VideoClip(frames, masks, cuts="none")) == ()
    assert VideoClip(frames, masks, cuts=[np.int64(3), 7]).cuts == (3, 7)  # type: ignore[arg-type]  # lists are read


@pytest.mark.parametrize("given", [(0,), (3, 3), (7, 3), (10,), (2.5,), (True,), "some", 3.5])
def test_cuts_that_are_none_of_the_clip(given: object) -> None:
    masks = np.ones((10, 4, 4), np.bool_)
    with pytest.raises(InputError, match=r"cuts: expected auto, none or .* ascending from 1 to 9, got"):
        VideoClip(np.zeros((10, 4, 4, 3), np.uint8), masks, cuts=given)  # type: ignore[arg-type]
