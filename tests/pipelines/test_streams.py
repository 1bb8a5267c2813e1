"""Frames that a caller feeds to a stream: checked one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion import FrameInput, crop_centers
from amodal_diffusion.basics import InputError
from amodal_diffusion.pipelines.completer import AmodalCompleter
from tests.factories import moving_square

CLIP = moving_square(3)
RGB, MASK = CLIP.rgb[0], CLIP.modal_mask[0]
DEPTH = np.linspace(-1, 1, MASK.size, dtype=np.float32).reshape(MASK.shape)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ((RGB, MASK), r"frames: expected FrameInput\(rgb, modal, ...\), got tuple"),
        (FrameInput(RGB, MASK * np.uint8(255)), r"frame 1: modal: expected bool \[H, W\], got uint8"),
        (FrameInput(RGB, MASK.astype(np.float32)), r"frame 1: modal: expected bool \[H, W\], got float32"),
        (FrameInput(torch.from_numpy(RGB), MASK), r"frame 1: rgb: expected a numpy array, .* got Tensor"),
        (FrameInput(RGB, None), "frame 1: modal: expected a numpy array, .* got NoneType"),
        (FrameInput(RGB[..., 0], MASK), r"frame 1: rgb: expected uint8 \[H, W, 3\], got uint8 \[24, 40\]"),
        (FrameInput(RGB, MASK), "frame 1: depth: none, and frames before have it"),
        (FrameInput(RGB, MASK, DEPTH * 1000), r"frame 1: depth: expected values in \[-1, 1\], .* got -1000 to 1000"),
        (FrameInput(RGB, MASK, DEPTH * np.nan), r"frame 1: depth: expected values in \[-1, 1\]"),
    ],
)
def test_a_wrong_frame_is_named(completer: AmodalCompleter, frame: FrameInput, message: str) -> None:
    frames = [FrameInput(RGB, MASK, DEPTH), frame]
    config = completer.config(height=8, width=16, num_inference_steps=1)
    with pytest.raises(InputError, match=message):
        list(completer.stream(frames, config))


def test_a_crop_needs_centers(completer: AmodalCompleter) -> None:
    config = completer.config(height=8, width=16, num_inference_steps=1, fit="crop")
    pairs = list(zip(CLIP.rgb, CLIP.modal_mask, strict=True))
    with pytest.raises(InputError, match=r"center: fit is crop, .* from crop_centers\(masks\)"):
        list(completer.stream([FrameInput(*pair) for pair in pairs], config))
    centers = crop_centers(CLIP.modal_mask)
    frames = [FrameInput(*pair, center=center) for pair, center in zip(pairs, centers, strict=True)]
    streamed = np.concatenate([result.amodal_mask for result in completer.stream(frames, config)])
    np.testing.assert_array_equal(streamed, completer(CLIP, config).amodal_mask)


def test_a_frame_is_shown_in_short() -> None:
    assert repr(FrameInput(RGB, MASK, DEPTH, starts_shot=True)) == "FrameInput(40x24, depth; starts a shot)"
