"""GIF: frames, colors, times and size."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.io.gif_writer import fitted_size, kept_frames, write_gif


def test_what_is_read_back(tmp_path: Path) -> None:
    pictures = [np.full((10, 16, 3), (40 * index, 255 - 40 * index, 90), np.uint8) for index in range(5)]
    pictures[3] = pictures[2]  # frames that repeat keep their time
    seconds = [Fraction(index, 7) for index in range(6)]
    write_gif(tmp_path / "a.gif", pictures, seconds)
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.size, image.info["loop"]) == ((16, 10), 0)
        shown, total = [], 0
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            shown.append(np.asarray(image.convert("RGB")).astype(int))
            total += image.info["duration"]
    assert total == 710  # 5/7 of a second in hundredths: rounding adds up to no delay
    distinct = [picture for index, picture in enumerate(pictures) if index != 3]
    assert all(np.abs(read - written).max() <= 4 for read, written in zip(shown, distinct, strict=True))


@pytest.mark.parametrize(
    ("rate", "count", "kept"),
    [(8, 4, [0, 1, 2, 3]), (24, 8, [0, 2, 4, 6]), (25, 12, [0, 3, 5, 7, 9, 11]), (60, 12, [0, 5, 10])],
)
def test_at_most_twelve_frames_a_second(rate: int, count: int, kept: list[int]) -> None:
    assert kept_frames([Fraction(index, rate) for index in range(count)]) == kept


def test_size() -> None:
    assert fitted_size(1080, 1920) == (270, 480)
    assert fitted_size(900, 30) == (480, 16)
    assert fitted_size(100, 200) == (100, 200)
