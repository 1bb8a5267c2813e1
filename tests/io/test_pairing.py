"""Masks and frames pair by the numbers in their names; what does not pair is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.inputs import open_inputs
from amodal_diffusion.completion.request import CompletionRequest, Output, Source
from amodal_diffusion.io.pairing import Pairing, number_of, pair
from tests.media import encode, moving_disc, write_frames, write_masks


def names(*numbers: int, form: str = "{:05d}.png") -> list[str]:
    return [form.format(number) for number in numbers]


def test_the_last_run_of_digits_is_the_number() -> None:
    found = [number_of(name) for name in ("00012.png", "shot2_frame_0034.jpg", "v2.final.7.png", "cup.png", "3d")]
    assert found == [12, 34, 7, None, 3]


@pytest.mark.parametrize(
    ("frames", "masks"),
    [
        (names(0, 1, 2), names(0, 1, 2, form="mask_{}.png")),
        (names(3, 5, 9), names(3, 5, 9)),
        (4, 4),
        (3, names(0, 1, 2)),
        (3, names(7, 8, 9)),
        (["a.png", "b.png"], ["x.png", "y.png"]),
        (["a.png", "b.png"], names(1, 2)),
    ],
)
def test_they_pair_without_a_word(frames: list[str] | int, masks: list[str] | int) -> None:
    assert pair(frames, masks) == Pairing()


def test_another_first_number_is_said() -> None:
    assert pair(names(0, 1, 2), names(1, 2, 3)) == Pairing(
        notice="masks count from 1 and frames from 0: they are paired in order"
    )


@pytest.mark.parametrize(
    ("frames", "masks", "positions"),
    [
        (names(*range(10)), names(0, 3, 6, 9), (0, 3, 6, 9)),
        (12, names(0, 4, 8), (0, 4, 8)),
        (12, (1, 5, 9), (1, 5, 9)),
        (names(*range(20, 30)), names(21, 24, 27), (1, 4, 7)),
    ],
)
def test_masks_of_every_nth_frame(frames: list[str] | int, masks: list[str], positions: tuple[int, ...]) -> None:
    found = pair(frames, masks)
    assert found.positions == positions
    assert f"only these {len(positions)} frames are completed" in found.notice


@pytest.mark.parametrize(
    ("frames", "masks", "message"),
    [
        (names(0, 1, 2), names(0, 1, 3), "names: no mask of frame 00002.png and no frame of mask 00003.png"),
        (
            names(0, 1, 2, 3),
            names(0, 1, 2),
            "3 masks for 4 frames do not pair by the numbers in their names: no mask of",
        ),
        (names(*range(10)), names(0, 4), "no mask of frame 00001.png"),  # two could be of any step
        (names(*range(12)), names(0, 3, 6), "no mask of frame 00001.png"),  # they end long before the clip
        (12, names(0, 5, 6), "no mask of frame 1"),
        (3, 4, "4 masks for 3 frames"),
        (["a.png", "b.png"], ["x.png"], "1 masks for 2 frames"),
    ],
)
def test_what_does_not_pair_is_named(frames: list[str] | int, masks: list[str] | int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pair(frames, masks)


@pytest.mark.parametrize("video", [True, False])
def test_only_frames_with_masks_are_opened(tmp_path: Path, video: bool, caplog: pytest.LogCaptureFixture) -> None:
    rgb, mask = moving_disc(9, 24, 40)
    clip = encode(tmp_path / "clip.mp4", rgb) if video else write_frames(tmp_path / "frames", rgb)
    masks = write_masks(tmp_path / "masks", mask)
    for number in range(9):
        if number % 4:
            (masks / f"{number:05d}.png").unlink()
    depth = tmp_path / "depth.npy"
    np.save(depth, np.arange(9 * 24 * 40, dtype=np.float32).reshape(9, 24, 40))
    request = CompletionRequest(Source(clip=clip, masks=masks), Output(out=tmp_path / "out"))
    inputs = open_inputs(request)
    assert (inputs.clip.num_frames, inputs.tracks[0].num_frames) == (3, 3)
    np.testing.assert_array_equal(np.stack(list(inputs.tracks[0])), mask[::4])
    assert "masks are of every 4-th frame: only these 3 frames are completed" in caplog.text
    assert inputs.clip.timing.seconds(1) == pytest.approx(4 / 8)
    assert inputs.clip.fps == pytest.approx(2)
    if not video:
        np.testing.assert_array_equal(np.stack(list(inputs.clip)), rgb[::4])
