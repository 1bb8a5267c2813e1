"""Tests of video/frames.py: ranges there and back, depth scaling, letterbox."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion.frames.transforms import (
    Letterbox,
    depth_to_unit,
    mask_to_unit,
    to_uint8,
    to_unit,
)
from amodal_diffusion.types import InputError


def test_every_level_survives_the_round_trip() -> None:
    rgb = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(1, 16, 16, 3)
    unit = to_unit(rgb)
    assert unit.shape == (1, 3, 16, 16)
    assert unit.dtype == torch.float32
    assert unit.min() == -1.0
    assert unit.max() == 1.0
    np.testing.assert_array_equal(to_uint8(unit), rgb)


def test_range_comes_from_the_dtype_not_from_the_values() -> None:
    bright = np.full((2, 4, 4, 3), 191, np.uint8)
    assert to_unit(bright).unique().item() == pytest.approx(191 / 127.5 - 1)
    with pytest.raises(InputError, match="uint8"):
        to_unit(bright.astype(np.float32))


def test_values_outside_the_range_are_clipped() -> None:
    video = torch.tensor([-3.0, 3.0]).repeat(3, 1).reshape(1, 3, 1, 2)
    np.testing.assert_array_equal(to_uint8(video)[0, 0, :, 0], [0, 255])


def test_masks_there_and_back() -> None:
    mask = np.random.default_rng(0).random((2, 3, 5, 7)) > 0.5
    unit = mask_to_unit(mask)
    assert unit.shape == (2, 3, 1, 5, 7)
    assert set(unit.unique().tolist()) == {-1.0, 1.0}
    np.testing.assert_array_equal(unit[:, :, 0].numpy() > 0, mask)


def test_depth_is_scaled_over_the_clip() -> None:
    depth = np.linspace(3.0, 7.0, 2 * 4 * 5, dtype=np.float32).reshape(2, 4, 5)
    unit = depth_to_unit(depth)
    assert unit.shape == (2, 1, 4, 5)
    assert unit[0].min() == -1.0
    assert unit[1].max() == 1.0
    assert unit[0].max() < 0.0
    part = depth_to_unit(depth[:1], limits=(3.0, 7.0))
    torch.testing.assert_close(part, unit[:1])


def test_constant_depth_is_zero() -> None:
    assert not depth_to_unit(np.full((2, 3, 3), 4.2, np.float32)).any()


def test_depth_that_is_not_finite_is_refused() -> None:
    depth = np.zeros((1, 2, 2), np.float32)
    depth[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="finite"):
        depth_to_unit(depth)


@pytest.mark.parametrize("source", [(37, 53), (64, 128), (1, 1), (2160, 16), (128, 64)])
def test_letterbox_keeps_a_smooth_picture(source: tuple[int, int]) -> None:
    box = Letterbox(source, (64, 128))
    rows = torch.linspace(-1, 1, source[0]).view(1, 1, -1, 1).expand(1, 2, *source)
    target = box.apply(rows, 0.0)
    assert target.shape == (1, 2, 64, 128)
    assert box.inner_hw[0] == 64 or box.inner_hw[1] == 128
    back = box.undo(target)
    assert back.shape == rows.shape
    assert (back - rows).abs().max() < 0.1


def test_letterbox_borders_are_centred_and_padded_as_asked() -> None:
    box = Letterbox((10, 10), (10, 30))
    frames = torch.rand(2, 3, 10, 10)
    white = box.apply(frames, 1.0)
    assert (white[..., :10] == 1).all()
    assert (white[..., 20:] == 1).all()
    torch.testing.assert_close(white[..., 10:20], frames)
    edge = box.apply(frames, "edge")
    torch.testing.assert_close(edge[..., 0], frames[..., 0])
    torch.testing.assert_close(box.undo(edge), frames)


def test_letterbox_refuses_another_size() -> None:
    with pytest.raises(InputError, match=r"expected \[F, C, 4, 4\], got \[1, 3, 5, 4\]"):
        Letterbox((4, 4), (8, 8)).apply(torch.zeros(1, 3, 5, 4), 0.0)
    with pytest.raises(InputError, match="at least 1 pixel"):
        Letterbox((0, 4), (8, 8))
