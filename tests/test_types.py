"""A clip takes what people have in Python: arrays, tensors, lists and pictures; all else is one clear error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.types import VideoClip, as_depth
from tests.media import moving_disc

RGB, MASK = moving_disc(4, 12, 16)
FLOATS = RGB.astype(np.float32) / 255
TENSOR = torch.from_numpy(FLOATS)


@pytest.mark.parametrize(
    "frames",
    [
        RGB,
        list(RGB),
        tuple(map(torch.from_numpy, RGB)),
        [Image.fromarray(frame) for frame in RGB],
        [Image.fromarray(frame).convert("RGBA") for frame in RGB],
        FLOATS,
        FLOATS.astype(np.float64),
        torch.from_numpy(RGB),
        TENSOR,
        TENSOR.clone().requires_grad_(),
        TENSOR.movedim(-1, 1),
        list(TENSOR.movedim(-1, 1)),
        RGB.transpose(0, 3, 1, 2),
    ],
)
def test_frames_of_every_kind(frames: Any) -> None:
    clip = VideoClip(frames, MASK)
    assert clip.rgb.dtype == np.uint8
    np.testing.assert_array_equal(clip.rgb, RGB)


@pytest.mark.parametrize(
    "masks",
    [
        MASK,
        MASK.astype(np.uint8),
        MASK.astype(np.uint8) * 255,
        MASK.astype(np.int64) * 7,
        MASK[:, None],
        list(MASK),
        list(MASK[:, None]),
        MASK.astype(np.float32) * 0.75,
        torch.from_numpy(MASK),
        torch.from_numpy(MASK).float()[:, None].requires_grad_(),
        torch.from_numpy(MASK).bfloat16(),
        [Image.fromarray(mask) for mask in MASK],
        [Image.fromarray(mask.astype(np.uint8) * 255) for mask in MASK],
    ],
)
def test_masks_of_every_kind(masks: Any) -> None:
    clip = VideoClip(RGB, masks)
    assert clip.modal_mask.dtype == np.bool_
    np.testing.assert_array_equal(clip.modal_mask, MASK)


def test_arrays_that_fit_are_not_copied() -> None:
    clip = VideoClip(RGB, MASK)
    assert clip.rgb is RGB
    assert clip.modal_mask is MASK
    assert replace(clip, fps=5.0).rgb is RGB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu() -> None:
    clip = VideoClip(TENSOR.cuda().half(), torch.from_numpy(MASK).cuda())
    assert np.abs(clip.rgb.astype(int) - RGB).max() <= 1
    np.testing.assert_array_equal(clip.modal_mask, MASK)


LABELS = np.arange(MASK.size, dtype=np.int32).reshape(MASK.shape) % 4


@pytest.mark.parametrize(
    ("frames", "masks", "message"),
    [
        (RGB.astype(np.uint16), MASK, r"rgb: expected uint8 .* got uint16 \[4, 12, 16, 3\]"),
        (RGB.astype(np.float32), MASK, r"rgb: expected uint8, or floats in 0..1, got float32 \[4, 12, 16, 3\] .* to 2"),
        (FLOATS - 0.5, MASK, r"rgb: .*floats in 0..1, got float32 \[4, 12, 16, 3\] with values from -0.5"),
        (np.full_like(FLOATS, np.nan), MASK, r"rgb: float32 \[4, 12, 16, 3\] holds NaN or infinity"),
        (np.full_like(FLOATS, np.inf), MASK, r"rgb: float32 \[4, 12, 16, 3\] holds NaN or infinity"),
        (RGB[..., :1], MASK, r"rgb: .* got uint8 \[4, 12, 16, 1\]; .*: np.repeat\(rgb, 3, -1\)"),
        (RGB[..., 0], MASK, r"rgb: .* got uint8 \[4, 12, 16\]; .*: np.repeat\(rgb\[..., None\], 3, -1\)"),
        (np.dstack([RGB[0], RGB[1]])[None, ..., :4], MASK, r"rgb: .*; drop alpha: rgb\[..., :3\]"),
        (np.moveaxis(RGB, -1, 0), MASK, r"rgb: .*\[3, 4, 12, 16\]; move the axis .*: np.moveaxis\(rgb, 0, -1\)"),
        (RGB[0], MASK, r"rgb: .* got uint8 \[12, 16, 3\]; give a single frame as frame\[None\]"),
        ([], MASK, "rgb: expected at least one frame, got an empty list"),
        ([RGB[0], RGB[1][:-1]], MASK, r"rgb: expected entries of one shape, got \[12, 16, 3\] and \[11, 16, 3\]"),
        ("clip.mp4", MASK, r"rgb: expected an array, a tensor, or a list .* got str"),
        (None, MASK, r"rgb: .* got NoneType"),
        ([Image.fromarray(FLOATS[0, ..., 0])], MASK, r"rgb\[0\]: expected a PIL picture .* mode F"),
        (RGB, MASK[:, :-1], r"modal_mask: expected bool \[4, 12, 16\] to match rgb, got bool \[4, 11, 16\]"),
        (RGB, MASK[..., None], r"modal_mask: .*, got bool \[4, 12, 16, 1\]; drop the last axis: modal_mask\[..., 0\]"),
        (RGB, LABELS, r"modal_mask: .* got int32 \[4, 12, 16\] with the values 0, 1, 2, 3; .*labels=True, .* == 3"),
        (RGB, LABELS * 80, r"modal_mask: .* with the values 0, 80, 160, 240; .*127 .*labels=True"),
        (RGB, -MASK.astype(np.int64), r"modal_mask: expected one object"),
        (RGB, MASK * np.float32(255), r"modal_mask: expected floats in 0..1, got float32 .* to 255"),
        (RGB, np.full(MASK.shape, np.nan), "modal_mask: expected floats in 0..1"),
        (RGB, [Image.fromarray(frame) for frame in RGB], r"modal_mask\[0\]: expected a PIL picture of one channel"),
        (RGB, MASK & False, "modal_mask: empty in every frame"),
    ],
)
def test_all_else_is_one_error(frames: Any, masks: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        VideoClip(frames, masks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "8"])
def test_a_frame_rate_that_is_none(fps: Any) -> None:
    with pytest.raises(InputError, match="fps: expected a frame rate above 0"):
        VideoClip(RGB, MASK, fps)


def test_floats_a_little_above_1_are_clipped(caplog: pytest.LogCaptureFixture) -> None:
    bright = FLOATS.copy()
    bright[0, 0, 0, 0] = 1.5
    assert VideoClip(bright, MASK).rgb[0, 0, 0, 0] == 255
    assert caplog.messages == ["rgb: floats above 1 are clipped (0.04%, the largest is 1.5)"]


def test_depth_of_every_kind() -> None:
    depth = np.random.default_rng(0).random(MASK.shape, dtype=np.float32)
    assert as_depth(depth, "depth") is depth
    for given in (torch.from_numpy(depth)[:, None], list(depth), depth.astype(np.float64)):
        np.testing.assert_array_equal(as_depth(given, "depth"), depth)
    with pytest.raises(
        InputError, match=r"depth: expected finite values, got NaN or infinity in float32 \[4, 12, 16\]"
    ):
        as_depth(np.full_like(depth, np.nan), "depth")
    with pytest.raises(InputError, match=r"depth: expected numbers .* got float32 \[4, 12, 16, 3\]; .* objects share"):
        as_depth(FLOATS, "depth")
