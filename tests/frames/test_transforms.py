"""Ranges there and back, depth scaling, letterbox and stretch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.transforms import (
    Letterbox,
    Stretch,
    depth_to_unit,
    mask_to_unit,
    resize_levels,
    resize_picture,
    to_uint8,
    to_unit,
)


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
    back = box.invert(target, outside=0.0)
    assert back.shape == rows.shape
    assert (back - rows).abs().max() < 0.1


def test_letterbox_borders_are_centered_and_padded_as_asked() -> None:
    box = Letterbox((10, 10), (10, 30))
    frames = torch.rand(2, 3, 10, 10)
    white = box.apply(frames, 1.0)
    assert (white[..., :10] == 1).all()
    assert (white[..., 20:] == 1).all()
    torch.testing.assert_close(white[..., 10:20], frames)
    edge = box.apply(frames, "edge")
    torch.testing.assert_close(edge[..., 0], frames[..., 0])
    torch.testing.assert_close(box.invert(edge, outside=0.0), frames)


def test_letterbox_refuses_another_size() -> None:
    with pytest.raises(InputError, match=r"expected \[F, C, 4, 4\], got \[1, 3, 5, 4\]"):
        Letterbox((4, 4), (8, 8)).apply(torch.zeros(1, 3, 5, 4), 0.0)
    with pytest.raises(InputError, match="at least 1 pixel"):
        Letterbox((0, 4), (8, 8))


@pytest.mark.parametrize("source", [(37, 53), (64, 128), (1, 1), (2160, 16), (128, 64)])
def test_stretch_fills_the_target_whatever_the_aspect(source: tuple[int, int]) -> None:
    stretch = Stretch(source, (64, 128))
    rows = torch.linspace(-1, 1, source[0]).view(1, 1, -1, 1).expand(1, 2, *source)
    target = stretch.apply(rows, 7.0)
    assert target.shape == (1, 2, 64, 128)
    assert target.abs().max() <= 1  # nothing is padded
    back = stretch.invert(target, outside=7.0)
    assert back.shape == rows.shape
    assert (back - rows).abs().max() < 0.1
    with pytest.raises(InputError, match=r"frames: expected \[F, C"):
        stretch.apply(torch.zeros(1, 2, source[0] + 1, source[1]), 0.0)


@pytest.mark.parametrize("geometry", [Letterbox, Stretch])
def test_a_thin_line_fades_with_antialiasing_and_is_missed_without(geometry: type[Letterbox | Stretch]) -> None:
    frames = torch.zeros(1, 1, 128, 256)
    frames[..., 80] = 1.0  # of 8 columns that become one; bilinear interpolation alone takes the middle two
    with_line, without = (geometry((128, 256), (16, 32), antialias).apply(frames, 0.0) for antialias in (True, False))
    assert with_line[..., 10].min() > 0.05
    assert not without.any()


def test_8_bit_pictures_are_rounded_once_and_keep_their_channels() -> None:
    ramp = np.broadcast_to(np.arange(0, 256, 5, dtype=np.uint8)[:, None], (52, 40))
    for pixels in (ramp, np.repeat(ramp[..., None], 3, axis=2)):
        for antialias in (True, False):
            scaled = resize_picture(pixels, (26, 20), antialias=antialias)
            assert scaled.dtype == np.uint8
            assert scaled.shape == (26, 20, *pixels.shape[2:])
            middle = (np.arange(26) * 10 + 2.5)[:, None]  # halfway between two rows
            gray = scaled if scaled.ndim == 2 else scaled[..., 1]
            assert np.abs(gray[1:-1] - middle[1:-1]).max() <= 0.5
            same = resize_picture(pixels, (52, 40), antialias=antialias)
            np.testing.assert_array_equal(same, pixels)


@pytest.mark.parametrize("size", [(13, 20), (52, 9), (7, 40), (120, 61), (1, 1), (52, 40)])
@pytest.mark.parametrize("antialias", [True, False])
def test_a_device_gives_8_bit_pictures_the_bytes_of_pil(size: tuple[int, int], antialias: bool) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(52, 40, 3), dtype=np.uint8)
    pixels[:, 20:] = np.where(pixels[:, 20:] < 128, 0, 255)
    scaled = resize_levels(torch.from_numpy(pixels).movedim(-1, 0), size, antialias=antialias)
    assert np.array_equal(scaled.movedim(0, -1).numpy(), resize_picture(pixels, size, antialias=antialias))
