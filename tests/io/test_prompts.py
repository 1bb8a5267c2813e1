"""What is shown of objects, sorted by object and frame; tests/commands/test_segment.py has what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.prompts import Box, MaskPrompt, Point, Prompts, Shown, Stroke


def test_objects_and_frames_are_in_order_whatever_the_order_they_were_given_in() -> None:
    late, early, beside = Point(1, 2, 9), Point(3, 4, 2), Point(5, 6, 9, inside=False)
    box = Box(0, 0, 5, 5, 9)
    prompts = Prompts(
        points=(late, Point(1, 1, object_name="10"), early, beside), boxes=(Box(0, 0, 2, 2, object_name="2"), box)
    )
    assert prompts.objects == ("1", "2", "10")
    assert list(prompts.shown("1").items()) == [(2, Shown((early,), None)), (9, Shown((late, beside), box))]


def test_the_last_pixel_and_a_box_around_all_of_the_frame_are_inside() -> None:
    prompts = Prompts(points=(Point(63, 47, 5),), boxes=(Box(0, 0, 64, 48, 0),))
    prompts.check(num_frames=6, height=48, width=64)
    for size in ({"height": 47, "width": 64}, {"height": 48, "width": 63}):
        with pytest.raises(InputError, match=r"point: 63,47@5: expected a place in the frame"):
            prompts.check(num_frames=6, **size)


def test_strokes_and_masks_have_the_size_of_the_frame_and_some_pixel() -> None:
    pixels = np.zeros((48, 64), np.bool_)
    pixels[5:9, 5:9] = True
    stroke, mask = Stroke(encode_rle(pixels), 2), MaskPrompt(encode_rle(pixels), 2, "b")
    prompts = Prompts(strokes=(stroke,), masks=(mask,))
    prompts.check(num_frames=6, height=48, width=64)
    assert prompts.shown("1") == {2: Shown((), None, (stroke,))}
    assert prompts.shown("b") == {2: Shown((), None, (), mask)}
    for wrong, words in (
        (
            Prompts(strokes=(Stroke(encode_rle(pixels[:40])),)),
            r"stroke of object 1 in frame 0: expected .* 48 x 64, got 16",
        ),
        (
            Prompts(masks=(MaskPrompt(encode_rle(pixels & False)),)),
            r"mask of object 1 in frame 0: .* got 0 in",
        ),
        (Prompts(masks=(mask, mask)), r"mask: object b has 2 masks in frame 2"),
        (Prompts(strokes=(Stroke(encode_rle(pixels), inside=False),)), r"object 1 has no point and no box in frame 0"),
    ):
        with pytest.raises(InputError, match=words):
            wrong.check(num_frames=6, height=48, width=64)
