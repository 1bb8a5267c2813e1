"""Hard cuts: where a clip goes on with another shot, found by color histograms, one frame at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise, product

import numpy as np

from amodal_diffusion.types import FloatArray, UInt8Array, VideoClip

NEAR = 4
"""Frames before and after a place that are compared; what lasts fewer frames and goes again, as a flash, is no cut."""
LEAST = 0.2
"""Smallest distance between every frame before a cut and every frame after it, from 0 to 1."""
SPIKE = 2.5
"""How many times the distance of neighboring frames on either side it must be at least: a fade, a pan or fast motion
goes on, a cut is over at once."""
BLOCKS = 4
"""Blocks of a frame along each side; each has histograms of its own, so that layout counts."""
CHANGED = 0.25
"""Quantile of the distances of blocks that is the distance of two frames: at a cut, three quarters of the picture
change; an object that comes close leaves more of it as it was."""

_SAMPLES = 128  # rows and columns of a frame that are looked at
_LEVELS = 8  # of a histogram, with linear weights: noise at the border of two levels changes little
_BLACK = 24  # 8-bit level; a block below it in both frames is a bar beside a picture of another shape
_LEAST_LIT = 1 / 8  # share of blocks that are no bars, below which nothing can be said


logger = logging.getLogger(__name__)


class CutDetector:
    """Finds the first frames of new shots while a clip is read; memory is that of eight small histograms."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._near: deque[FloatArray] = deque(maxlen=2 * NEAR)  # the latest frames
        self._count = 0
        self._cuts: list[int] = []

    def add(self, rgb: UInt8Array) -> None:
        """Look at the next frame.

        Args:
            rgb: uint8 ``[H, W, 3]``.
        """
        self._near.append(_histograms(rgb))
        self._count += 1
        if self._count > NEAR:
            self._judge(self._count - NEAR)

    def finish(self) -> tuple[int, ...]:
        """End the clip.

        Returns:
            first frames of all shots but the first, in order.
        """
        for number in range(max(1, self._count - NEAR + 1), self._count):
            self._judge(number)
        return tuple(self._cuts)

    def _judge(self, number: int) -> None:
        """Note whether a shot begins at a frame, of which those near are held."""
        place = number - (self._count - len(self._near))
        near = list(self._near)
        before, after = near[max(0, place - NEAR) : place], near[place : place + NEAR]
        change = min(_distance(one, other) for one, other in product(before, after))
        if change >= LEAST and change >= SPIKE * max(_least_change(before), _least_change(after)):
            self._cuts.append(number)


def find_cuts(frames: Iterable[UInt8Array]) -> tuple[int, ...]:
    """Find the hard cuts of a clip.

    Args:
        frames: uint8 ``[H, W, 3]`` each, read once.

    Returns:
        first frames of all shots but the first, in order.
    """
    detector = CutDetector()
    for rgb in frames:
        detector.add(rgb)
    return detector.finish()


def clip_cuts(clip: VideoClip) -> tuple[int, ...]:
    """First frames of all shots of a clip but the first: those that it names, or those that are found."""
    if isinstance(clip.cuts, tuple):
        return clip.cuts
    return find_cuts(clip.rgb) if clip.cuts == "auto" else ()


def shots_of(num_frames: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """The shots of a clip.

    Args:
        num_frames: of the clip.
        cuts: first frames of all shots but the first, in order.

    Returns:
        first frame of each shot, and one past its last.
    """
    return list(pairwise([0, *cuts, num_frames]))


def say_cuts(cuts: Sequence[int]) -> None:
    """Give notice of hard cuts that were found; nothing where there are none.

    Args:
        cuts: first frames of new shots.
    """
    if cuts:
        logger.warning(
            "cuts: new shots begin at frame %s; each shot is completed by itself (none: take the clip for one shot)",
            ", ".join(map(str, cuts)),
        )


def _least_change(frames: Sequence[FloatArray]) -> float:
    """How much a shot changes from frame to frame; the pair that is most alike tells, as one may be a flash."""
    return min((_distance(one, other) for one, other in combinations(frames, 2)), default=0.0)


def _distance(one: FloatArray, other: FloatArray) -> float:
    """Distance of two frames, from 0 (equal) to 1, from their histograms."""
    lit = np.maximum(one[:, 0], other[:, 0]) > 0
    if lit.mean() < _LEAST_LIT:
        return 0.0
    blocks = np.abs(one[lit, 1:] - other[lit, 1:]).sum(axis=1) / 6  # three channels, and each difference counts twice
    return float(np.quantile(blocks, CHANGED, method="lower"))


def _histograms(rgb: UInt8Array) -> FloatArray:
    """For each block whether it is not black, then the histograms of its channels; float32 ``[blocks, 1 + 24]``."""
    height, width = rgb.shape[:2]
    small = rgb[:: max(1, height // _SAMPLES), :: max(1, width // _SAMPLES)]
    rows, columns = (np.arange(side) * min(BLOCKS, side) // side for side in small.shape[:2])
    across, down = int(columns[-1]) + 1, int(rows[-1]) + 1
    block = (rows[:, None] * across + columns)[..., None]
    places = (block * 3 + np.arange(3)) * 256 + small
    levels = np.bincount(places.ravel(), minlength=down * across * 3 * 256).reshape(down * across, 3, 256)
    counts = levels.sum(axis=2, keepdims=True)
    lit = levels[..., _BLACK:].sum(axis=(1, 2)) > 0
    soft = (levels / counts) @ _WEIGHTS  # [blocks, 3, levels]
    return np.concatenate([lit[:, None], soft.reshape(down * across, -1)], axis=1, dtype=np.float32)


def _weights() -> FloatArray:
    """Of each 8-bit value in the two levels that it lies between, float32 ``[256, levels]``."""
    places = np.arange(256)[:, None] / 255 * (_LEVELS - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places - np.arange(_LEVELS))), dtype=np.float32)


_WEIGHTS = _weights()
