"""Paint on frames: a color an object, frames between filled in, masks that `complete` reads."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from amodal_diffusion.app.drawing import OBJECTS, Painting, labels_of, read_painting
from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.drawing import COLORS
from amodal_diffusion.io.mask_files import read_masks

UInt8 = npt.NDArray[np.uint8]


def square(label: int, left: int) -> UInt8:
    labels = np.zeros((20, 40), np.uint8)
    labels[5:15, left : left + 10] = label
    return labels


def test_objects_are_told_apart_by_their_color_and_faint_edges_are_left_out() -> None:
    layer = np.zeros((4, OBJECTS + 1, 4), np.uint8)
    for index in range(OBJECTS):
        layer[:, index] = (*np.clip(np.array(COLORS[index]) - 3, 0, 255), 255)
    layer[:, OBJECTS] = (*COLORS[0], 60)
    assert labels_of([layer], height=4, width=OBJECTS + 1)[0].tolist() == [*range(1, OBJECTS + 1), 0]


def test_a_layer_of_another_size_is_brought_to_the_frames() -> None:
    layer = np.zeros((10, 20, 4), np.uint8)
    layer[:, 10:] = (*COLORS[1], 255)
    labels = labels_of([layer], height=20, width=40)
    assert (labels[:, 20:] == 2).all()
    assert not labels[:, :20].any()


def sent(labels: UInt8, kind: str = "PNG") -> str:
    """What the drawing board sends of a frame, as a data URL."""
    palette = np.array([(0, 0, 0, 0), *((*color, 255) for color in COLORS[:OBJECTS])], np.uint8)
    file = io.BytesIO()
    Image.fromarray(palette[labels]).save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def test_what_the_board_sends_is_read_as_the_same_labels() -> None:
    labels = square(1, 3) + square(3, 25)
    text = json.dumps({"2": sent(labels), "4": "", "1": sent(labels[::2, ::2])})
    painting = read_painting(text, num_frames=5, height=20, width=40)
    assert painting.frames == [1, 2, 4]
    assert painting.objects == [1, 3]
    full = read_painting(json.dumps({"0": sent(labels)}), num_frames=1, height=20, width=40)
    np.testing.assert_array_equal(full.labels(1)[0], labels)


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{", "[[[[", '{"a": ""}', '{"7": ""}', '{"-1": ""}', '{"0": 3}', '{"0": "data:image/png;base64,AAAA"}'),
        json.dumps({"0": sent(np.zeros((21, 40), np.uint8))}),
        json.dumps({"0": sent(np.zeros((20, 40), np.uint8), "TIFF")}),
    ],
)
def test_what_no_board_sends_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match="cannot read the paint"):
        read_painting(text, num_frames=5, height=20, width=40)


@pytest.mark.parametrize(
    ("painted", "said"), [((), "nothing is painted"), ((0,), "frame 4 is"), ((2,), "frame 0 and 4")]
)
def test_frames_that_are_needed_are_named(painted: tuple[int, ...], said: str) -> None:
    painting = Painting()
    for frame in painted:
        painting.put(frame, square(1, 5))
    with pytest.raises(InputError, match=said):
        painting.labels(5)


def test_one_frame_is_enough_for_one_picture() -> None:
    painting = Painting()
    painting.put(0, square(1, 5))
    assert len(painting.labels(1)) == 1


def test_frames_between_are_filled_in_for_each_object_and_read_back(tmp_path: Path) -> None:
    painting = Painting()
    painting.put(0, square(1, 0) + square(2, 20))
    painting.put(4, square(1, 8))  # object 2 has gone by then
    painting.write(tmp_path, 5)
    tracks = read_masks(tmp_path)
    assert list(tracks) == ["1", "2"]
    middle = list(tracks["1"])[2]
    assert (middle == (square(1, 4) > 0)).mean() > 0.97
    assert tracks["2"].areas == (100, 0, 0, 0, 0)


def test_nothing_is_filled_in_across_a_cut() -> None:
    painting = Painting()
    for frame, place in ((0, 0), (2, 4), (3, 20), (5, 24)):
        painting.put(frame, square(1, place))
    labels = painting.labels(9, cuts=(3, 6))
    assert (labels[1] == square(1, 2)).mean() > 0.97
    assert (labels[4] == square(1, 22)).mean() > 0.97
    assert not np.any(labels[6:])  # a shot without paint
    painting.put(7, square(1, 3))
    with pytest.raises(
        InputError, match="frame 6 and 8 is not painted; paint the first and the last frame of the shot"
    ):
        painting.labels(9, cuts=(3, 6))


def test_one_object_of_any_color_is_one_object(tmp_path: Path) -> None:
    painting = Painting()
    painting.put(0, square(3, 0))
    painting.write(tmp_path, 1)
    assert list(read_masks(tmp_path)) == ["3"]


def test_a_frame_without_paint_counts_as_painted_when_it_was_said_to_show_nothing() -> None:
    painting = Painting()
    painting.put(0, square(1, 0))
    painting.put(3, np.zeros((20, 40), np.uint8))
    assert [bool(labels.any()) for labels in painting.labels(4)] == [True, False, False, False]
