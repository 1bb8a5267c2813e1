"""Animated GIF: one palette for all frames, a limited size and rate, and an endless loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.types import UInt8Array

MOST_FPS = 12
"""Frames of a GIF a second, at most."""
LONGEST_SIDE = 480
"""Pixels of the longer side of a GIF, at most."""
_COLORS = 256
_SAMPLED = 12  # frames from which the palette is made, evenly spread
_TICK = 100  # of a GIF's clock a second
_SHORTEST = 2  # ticks; browsers slow shorter frames down to ten a second


def kept_frames(seconds: Sequence[Fraction]) -> list[int]:
    """Frames of a clip that a GIF shows: the first, and then each that comes late enough for its rate.

    Args:
        seconds: presentation time of each frame of the clip.
    """
    kept, due = [], seconds[0]
    for index, second in enumerate(seconds):
        if second >= due:
            kept.append(index)
            due = max(due + Fraction(1, MOST_FPS), second)
    return kept


def fitted_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a picture in a GIF; small pictures keep their size.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
    """
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def write_gif(path: Path, pictures: Iterable[UInt8Array], seconds: Sequence[Fraction]) -> None:
    """Write pictures as an endless GIF.

    Args:
        path: destination, overwritten.
        pictures: uint8 ``[H, W, 3]`` each, all of one size, at least one; all are held in memory.
        seconds: when each picture appears, and when the last one ends: one number more than pictures.
    """
    images = [Image.fromarray(picture) for picture in pictures]
    palette = _palette(images)
    # Without dithering: its noise moves from frame to frame and makes the file several times larger
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    first.save(
        path,
        "GIF",
        save_all=True,
        append_images=others,
        duration=[10 * ticks for ticks in _durations(seconds)],
        loop=0,
        optimize=False,
        disposal=1,
    )


def _palette(images: Sequence[Image.Image]) -> Image.Image:
    """The colors of some frames, as a picture with a palette."""
    places = np.unique(np.linspace(0, len(images) - 1, _SAMPLED).round().astype(int))
    sampled = np.concatenate([np.asarray(images[place]) for place in places])
    return Image.fromarray(sampled).quantize(_COLORS, method=Image.Quantize.MEDIANCUT)


def _durations(seconds: Sequence[Fraction]) -> Iterator[int]:
    """Ticks of each picture; rounded times, not rounded durations, so that no delay adds up."""
    ticks = [round((second - seconds[0]) * _TICK) for second in seconds]
    for begin, end in pairwise(ticks):
        yield max(_SHORTEST, end - begin)
