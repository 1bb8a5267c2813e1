"""Hard cuts: where a clip goes on with another shot, found by color histograms, one frame at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from amodal_diffusion.types import FloatArray, UInt8Array, VideoClip

NEAR = 4
"""Frames before and after a place that are compared; what lasts fewer frames and goes again, as a flash, is no cut."""
LEAST = 0.2
"""Smallest distance between any frame before a cut and any frame after it, from 0 to 1.

Chosen on 120 generated training and validation scenes: inside a scene the largest distance is 0.09, and 0.13 if only
every third or fifth frame is kept; between two scenes the smallest of 400 is 0.25 and the median 0.55.
"""
SPIKE = 2.5
"""How many times the distance of neighboring frames on either side it must be at least.

A fade, a pan or fast motion goes on, a cut is over at once: where two scenes are joined the smallest ratio is 5.8;
where they fade into each other, to black or to white over 6 frames or more, it stays below 2.5 in 99 of 100 cases. What
changes within 4 frames is a cut.
"""
BLOCKS = 4
"""Blocks of a frame along each side; each has histograms of its own, so that layout counts."""
CHANGED = 0.25
"""Quantile of the distances of blocks that is the distance of two frames: at a cut, three quarters of the picture
change; an object that comes close leaves more of it as it was."""

_SAMPLES = 128  # rows and columns of a frame that are looked at
_LEVELS = 8  # of a histogram, with linear weights: noise at the border of two levels changes little
_BLACK = 24  # 8-bit level, up to which a line is of a bar beside a picture of another shape
_Area = tuple[int, int, int, int]  # first row, one past the last, first column, one past the last

logger = logging.getLogger(__name__)


class CutDetector:
    """Finds the first frames of new shots while a clip is read; memory is that of eight small frames."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._samples: deque[UInt8Array] = deque(maxlen=2 * NEAR)  # of the latest frames
        self._near: deque[FloatArray] = deque(maxlen=2 * NEAR)  # their histograms
        self._area: _Area | None = None  # of the samples, without bars that all frames so far have
        self._count = 0
        self._cuts: list[int] = []

    def add(self, rgb: UInt8Array) -> None:
        """Look at the next frame.

        Args:
            rgb: uint8 ``[H, W, 3]``; all frames of a clip have one size.
        """
        height, width = rgb.shape[:2]
        small = rgb[:: max(1, height // _SAMPLES), :: max(1, width // _SAMPLES)].copy()
        self._samples.append(small)
        area = _joined(self._area, _picture_area(small))
        if area == self._area:
            self._near.append(_histograms(small, area))
        else:
            self._area = area
            self._near.clear()
            self._near.extend(_histograms(samples, area) for samples in self._samples)
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
        near = slice(max(0, place - NEAR), place + NEAR)
        distances = _distances(np.stack(self._near)[near])
        before = place - near.start
        change = float(distances[:before, before:].min())
        usual = max(_least_change(distances[:before, :before]), _least_change(distances[before:, before:]))
        if change >= LEAST and change >= SPIKE * usual:
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
            "cuts: new shots begin at frame %s; each shot is completed by itself (cuts none: the clip is one shot)",
            ", ".join(map(str, cuts)),
        )


def _least_change(distances: FloatArray) -> float:
    """How much a shot changes from frame to frame; the pair that is most alike tells, as one may be a flash."""
    pairs = distances[np.triu_indices(len(distances), 1)]
    return float(pairs.min()) if len(pairs) else 0.0


def _distances(frames: FloatArray) -> FloatArray:
    """Distances of frames, float32 ``[n, n]`` from 0 (equal) to 1, from their histograms ``[n, blocks, 24]``."""
    blocks = np.abs(frames[:, None] - frames).sum(axis=3) / 6  # three channels, and each difference counts twice
    place = int(CHANGED * (blocks.shape[2] - 1))
    return np.asarray(np.partition(blocks, place, axis=2)[..., place])


def _picture_area(small: UInt8Array) -> _Area | None:
    """The part of a frame within black bars; None if all of it is black."""
    lit = small.max(axis=2) > _BLACK
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    return (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1) if len(rows) else None


def _joined(one: _Area | None, other: _Area | None) -> _Area | None:
    """The smallest area that holds both."""
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])


def _histograms(small: UInt8Array, area: _Area | None) -> FloatArray:
    """Histograms of the three channels in each block of an area, all of it if None; float32 ``[blocks, 24]``."""
    top, bottom, left, right = area or (0, small.shape[0], 0, small.shape[1])
    part = small[top:bottom, left:right]
    rows, columns = (np.arange(side) * min(BLOCKS, side) // side for side in part.shape[:2])
    blocks, across = (int(rows[-1]) + 1) * (int(columns[-1]) + 1), int(columns[-1]) + 1
    channels = (rows[:, None] * across + columns)[..., None] * 3 + np.arange(3)
    values = np.bincount((channels * 256 + part).ravel(), minlength=blocks * 3 * 256).reshape(blocks, 3, 256)
    shares: FloatArray = ((values / values.sum(axis=2, keepdims=True)) @ _WEIGHTS).astype(np.float32)
    return shares.reshape(blocks, 3 * _LEVELS)


def _weights() -> FloatArray:
    """Of each 8-bit value in the two levels that it lies between, float32 ``[256, levels]``."""
    places = np.arange(256)[:, None] / 255 * (_LEVELS - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places - np.arange(_LEVELS))), dtype=np.float32)


_WEIGHTS = _weights()
