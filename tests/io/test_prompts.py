"""What is shown of objects, sorted by object and frame; tests/commands/test_segment.py has what is refused."""

from __future__ import annotations

import pytest

from amodal_diffusion.io.prompts import Box, Point, Prompts, Shown
from amodal_diffusion.types import InputError


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
