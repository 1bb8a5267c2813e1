"""A clip and its objects from files, in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import amodal_diffusion
from amodal_diffusion.basics import InputError
from amodal_diffusion.types import AmodalResult, VideoClip
from tests.media import moving_disc, write_frames, write_masks

RGB, MASK = moving_disc(4, 24, 40)
OTHER = np.roll(MASK, 5, axis=2)


def test_one_object_and_several(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip", RGB)
    write_masks(tmp_path / "one", MASK)
    clip = VideoClip.from_file(tmp_path / "clip", tmp_path / "one")
    np.testing.assert_array_equal(clip.rgb, RGB)
    np.testing.assert_array_equal(clip.modal_mask, MASK)
    write_masks(tmp_path / "two" / "cup", MASK)
    write_masks(tmp_path / "two" / "jug", OTHER)
    jug = VideoClip.from_file(str(tmp_path / "clip"), tmp_path / "two", object_name="jug")
    np.testing.assert_array_equal(jug.modal_mask, OTHER)
    with pytest.raises(InputError, match="object_name: expected one of cup, jug, got none"):
        VideoClip.from_file(tmp_path / "clip", tmp_path / "two")
    with pytest.raises(InputError, match="masks: no object pot; there are cup, jug"):
        VideoClip.from_file(tmp_path / "clip", tmp_path / "two", object_name="pot")


def test_masks_of_every_second_frame(tmp_path: Path) -> None:
    rgb, masks = moving_disc(7, 24, 40)
    write_frames(tmp_path / "clip", rgb)
    write_masks(tmp_path / "masks", masks)
    for number in range(1, 7, 2):
        next((tmp_path / "masks").glob(f"*{number}.png")).unlink()
    clip = VideoClip.from_file(tmp_path / "clip", tmp_path / "masks")
    np.testing.assert_array_equal(clip.rgb, rgb[::2])
    np.testing.assert_array_equal(clip.modal_mask, masks[::2])


def test_an_empty_object_is_named(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip", RGB)
    write_masks(tmp_path / "two" / "cup", MASK)
    write_masks(tmp_path / "two" / "jug", MASK & False)
    with pytest.raises(InputError, match="masks: object jug is empty in every frame"):
        VideoClip.from_file(tmp_path / "clip", tmp_path / "two")
    assert VideoClip.from_file(tmp_path / "clip", tmp_path / "two", object_name="cup").num_frames == 4


def test_short_texts() -> None:
    assert repr(VideoClip(RGB, MASK)) == "VideoClip(4 frames of 40x24, 8 fps, object visible in 4 frames)"
    assert repr(VideoClip(RGB[:1], MASK[:1])) == "VideoClip(1 frame of 40x24, 8 fps, object visible in 1 frame)"
    assert repr(AmodalResult(MASK, score=np.zeros((4, 8, 8), np.float32))) == (
        "AmodalResult(4 frames of 40x24: amodal_mask, score)"
    )
    assert amodal_diffusion.__version__[0].isdigit()
