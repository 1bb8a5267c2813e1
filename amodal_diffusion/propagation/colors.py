"""Color propagation: colors of hidden pixels from frames that show them, and the reliability of these colors."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from amodal_diffusion.frames.masks import bounds
from amodal_diffusion.propagation.color_cells import ColorCells, place_finely
from amodal_diffusion.propagation.motion import ObjectMotion, background_evidence, estimate_motion
from amodal_diffusion.propagation.placement import (
    Placement,
    Points,
    WeightedPixels,
    bilinear,
    in_cells,
    to_frame,
    to_object,
)
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

MEMORY = 10.0
"""Time constant in frames: the weight of another frame falls to 1/e at this distance."""
NEARBY = 0.08
"""Standard deviation, in object sides, of the local mean of the color differences between two frames."""
TRUST = 1.6
"""Error variance of a propagated color, relative to that of the mean color, at which it gets half the weight.

Unrelated colors reach a ratio of 2. On validation scenes, propagated colors still beat the mean color at 1.6, because
the pixels that two frames share lie at the borders of their visible parts, where the frames agree less.
"""
RIM = 0.5
"""Weight of a visible pixel at the border of the modal mask, where colors of two surfaces mix."""
_KNOWN = 6.0  # cells; weight of the mean difference of two frames in the local mean
_DOUBT = 40.0  # cells; weight of the prior variance of an untested placement
_LEAST = 4.0  # gray levels squared; smallest variance of a propagated color
_SURE = 0.9
_LEAST_SEEN = 0.05


_fine: MutableMapping[ObjectMotion, Placement] = WeakKeyDictionary()
"""Refined placements of the motions that are still remembered, as both stages ask for the same."""


@dataclass(frozen=True)
class HiddenColors:
    """Estimated colors of one frame's hidden pixels, in the order of ``np.nonzero``.

    Attributes:
        copied: colors propagated from other frames, in gray levels, float32 ``[n, 3]``.
        sure: weight of the propagated color in the estimate, in [0, 1], float32 ``[n]``.
    """

    copied: FloatArray
    sure: FloatArray

    def faded(self, other: HiddenColors, share: float) -> HiddenColors:
        """Mixture of both estimates; ``share``, in [0, 1], is the weight of the other."""
        return HiddenColors(
            self.copied + (other.copied - self.copied) * np.float32(share),
            self.sure + (other.sure - self.sure) * np.float32(share),
        )


def propagated_colors(
    rgb: UInt8Array, modal: BoolArray, amodal: BoolArray, depth: FloatArray | None
) -> Sequence[HiddenColors | None]:
    """Estimate the colors of each frame's hidden pixels from the frames in which they are visible.

    The object is registered in all frames by shift, rotation and scale. Pixels visible in two frames show how well one
    frame predicts the other. Propagated colors are corrected by the difference there. Their weight falls with the
    remaining difference and with the distance in time.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: modal (visible) masks, bool ``[F, H, W]``.
        amodal: amodal masks, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None without depth.

    Returns:
        for each frame, the colors of the pixels in ``amodal`` but not in ``modal``; None for all frames if the object
        is never visible.
    """
    if not modal.any():
        return [None] * len(modal)
    return colors_along(rgb, modal, amodal & ~modal, estimate_motion(rgb, modal, background_evidence(modal, depth)))


def colors_along(rgb: UInt8Array, modal: BoolArray, wanted: BoolArray, path: ObjectMotion) -> list[HiddenColors]:
    """As :func:`propagated_colors`, where the motion of the object is known.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: modal (visible) masks, bool ``[F, H, W]``, not empty in every frame.
        wanted: pixels whose colors are estimated, bool ``[F, H, W]``, nowhere visible.
        path: from :func:`~amodal_diffusion.propagation.motion.estimate_motion`; it is refined here.
    """
    cells = ColorCells.of(rgb, modal, side=path.side)
    placements = _fine.get(path)
    if placements is None:
        placements = _fine[path] = place_finely(cells, path.placements, path.placed)
    copier = _Copier(rgb, modal, cells, placements, side=path.side)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # NumPy and SciPy let other threads run
        return list(threads.map(copier.look_up, range(len(modal)), wanted))


@dataclass(frozen=True)
class _Copied:
    """Colors of points, merged over the other frames.

    Attributes:
        colors: in gray levels, ``[n, 3]``.
        variance: their error variance, estimated from shared pixels nearby, ``[n]``; infinite where no frame shows the
            point.
    """

    colors: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]

    def sureness(self, spread: float) -> npt.NDArray[np.float64]:
        """Weight of the propagated colors in the estimate, in [0, 1], ``[n]``.

        Args:
            spread: error variance of the mean color.
        """
        return np.asarray(1 / (1 + (self.variance / (TRUST * spread)) ** 4))


class _Copier:
    """Looks up hidden pixels of a clip in its other frames."""

    def __init__(
        self, rgb: UInt8Array, modal: BoolArray, cells: ColorCells, placements: Placement, *, side: int
    ) -> None:
        self._modal, self._cells, self._placements = modal, cells, placements
        self._in_cells = in_cells(placements, cells.block)
        self._side = max(1.0, side / cells.block)
        self._shown = [_shown(*frame) if frame[1].any() else None for frame in zip(rgb, modal, strict=True)]
        colors = rgb[modal].astype(np.float32)
        self._mean = colors.mean(axis=0)
        self._spread = float(((colors - self._mean) ** 2).mean()) + 1.0
        self._usual = self._usual_difference()

    def look_up(self, frame: int, hidden: BoolArray) -> HiddenColors:
        rows, columns = (line.astype(np.float64) for line in np.nonzero(hidden))
        if not len(rows):
            nothing = np.zeros((0, 3), np.float32)
            return HiddenColors(nothing, nothing[:, 0])
        box = self._box(frame, hidden)
        points = to_object(self._placements[frame], rows, columns)
        within = [line / self._cells.block - (1 - 1 / self._cells.block) / 2 - part.start
                  for line, part in zip((rows, columns), box, strict=True)]  # fmt: skip
        found = self._gather(frame, box, points, within)
        return HiddenColors(found.colors.astype(np.float32), found.sureness(self._spread).astype(np.float32))

    def _gather(
        self, frame: int, box: tuple[slice, slice], points: tuple[Points, Points], within: list[Points]
    ) -> _Copied:
        """Merge the colors that other frames show at points of the object; ``within`` are their cells in the box."""
        count = len(points[0])
        total, variance, colors = np.zeros(count), np.zeros(count), np.zeros((3, count))
        for other, pixels in enumerate(self._shown):
            if other == frame or pixels is None:
                continue
            at, shown, seen = pixels.interpolate(*to_frame(self._placements[other], *points), above=_LEAST_SEEN)
            if not len(at):
                continue
            late = np.exp(abs(other - frame) / MEMORY)
            offset, wrong = self._fit(frame, other, box, [line[at] for line in within])
            wrong = wrong * late
            counts = (seen / wrong) ** 2
            total[at] += counts
            variance[at] += counts * wrong / seen
            for line, own, added in zip(colors, shown, offset, strict=True):
                line[at] += counts * (own + added)
        known = np.maximum(total, np.finfo(np.float64).tiny)
        merged = np.where((total > 0)[:, None], (colors / known).T, self._mean)
        return _Copied(merged, np.where(total > 0, variance / known, np.inf))

    def _box(self, frame: int, hidden: BoolArray) -> tuple[slice, slice]:
        """Rows and columns of the cells around the object in a frame."""
        block, (height, width) = self._cells.block, self._cells.weight.shape[1:]
        reach = int(np.ceil(3 * NEARBY * self._side))
        (top, bottom), (left, right) = bounds(hidden | self._modal[frame])
        return (
            slice(max(0, top // block - reach), min(height, (bottom - 1) // block + reach + 1)),
            slice(max(0, left // block - reach), min(width, (right - 1) // block + reach + 1)),
        )

    def _fit(
        self, frame: int, other: int, box: tuple[slice, slice], within: list[Points]
    ) -> tuple[FloatArray, FloatArray]:
        """How well one frame predicts the colors of another, from the cells of a box in which both show the object.

        Args:
            frame: the frame whose colors are predicted.
            other: the frame that predicts them.
            box: cells of the first frame, with enough of them around the object.
            within: rows and columns of points, in cells of the box.

        Returns:
            for each point, the correction to add to the colors, float32 ``[3, n]``; and the variance of the remaining
            error, in gray levels squared, float32 ``[n]``.
        """
        difference, at = self._difference(frame, other, box)
        shape = tuple(part.stop - part.start for part in box)
        known = float(len(at[0]))
        mean = difference.sum(axis=0) / (known + _KNOWN)
        squared = np.zeros(shape, np.float32)
        squared[at] = ((difference - mean) ** 2).mean(axis=-1)
        usual = (squared.sum() + _DOUBT * self._usual) / (known + _DOUBT)
        near = [_span(cells, points, length) for cells, points, length in zip(at, within, shape, strict=True)]
        known_cells = np.zeros((5, *(stop - start for start, stop in near)), np.float32)
        inner = at[0] - near[0][0], at[1] - near[1][0]
        known_cells[(0, *inner)] = 1
        known_cells[(slice(1, 4), *inner)] = difference.T
        known_cells[4] = squared[tuple(slice(*span) for span in near)]
        blur = max(1.0, NEARBY * self._side)
        area = 2 * np.pi * blur**2  # effective number of cells in the blurred mean
        weight, *offset, varied = ndimage.gaussian_filter(known_cells, (0, blur, blur), mode="constant") * area
        weight = weight + _KNOWN
        maps = [(plane + _KNOWN * level) / weight for plane, level in zip(offset, mean, strict=True)]
        maps.append((varied + _KNOWN * usual) / weight + _LEAST)
        found = bilinear(
            np.asarray(maps, dtype=np.float32), *(line - start for line, (start, _) in zip(within, near, strict=True))
        )
        return found[:3], found[3]

    def _difference(
        self, frame: int, other: int, box: tuple[slice, slice]
    ) -> tuple[FloatArray, tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
        """Own colors minus those of another frame where both are visible, ``[m, 3]``, and rows and columns ``[m]``."""
        visible = self._cells.weight[frame][box] > _SURE
        rows, columns = np.nonzero(visible)
        points = to_object(
            self._in_cells[frame],
            rows.astype(np.float64) + box[0].start, columns.astype(np.float64) + box[1].start,
        )  # fmt: skip
        both, colors, _ = self._cells.pixels[other].interpolate(*to_frame(self._in_cells[other], *points), above=_SURE)
        rows, columns = rows[both], columns[both]
        return self._cells.colors[frame][box][rows, columns] - colors.T, (rows, columns)

    def _usual_difference(self) -> float:
        """Twice the mean squared difference of neighboring frames; the prior for frames without shared pixels."""
        height, width = self._cells.weight.shape[1:]
        whole = slice(0, height), slice(0, width)
        squared, count = _DOUBT * self._spread, _DOUBT
        for frame in range(len(self._modal) - 1):
            difference, _ = self._difference(frame, frame + 1, whole)
            if len(difference):
                seen = difference - difference.mean(axis=0)
                squared, count = squared + float((seen**2).mean(axis=-1).sum()), count + float(len(difference))
        return min(self._spread, 2 * squared / count)


def _shown(rgb: UInt8Array, modal: BoolArray) -> WeightedPixels:
    """The visible pixels of a frame; those at the border of the modal mask count less."""
    (top, bottom), (left, right) = bounds(modal)
    box = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)  # a crop has no border of its own
    weight = np.zeros(modal.shape, np.float32)
    inner = ndimage.binary_erosion(modal[box], border_value=1)
    weight[box] = np.where(inner, np.float32(1), np.float32(RIM) * modal[box])
    return WeightedPixels.of(rgb, weight)


def _span(known: npt.NDArray[np.intp], wanted: Points, length: int) -> tuple[int, int]:
    """First cell, and one past the last, of the part of a line that holds known cells and those around points."""
    inside = np.clip([wanted.min(), wanted.max() + 1], 0, length - 1).astype(np.intp).tolist()
    cells = [*inside, int(known.min()), int(known.max())] if len(known) else inside
    return min(cells), max(cells) + 1


def fade_colors(known: dict[int, HiddenColors | None], start: int, found: Sequence[HiddenColors | None]) -> None:
    """Add the colors of a window to those of earlier windows; shared frames cross-fade, as painted frames do.

    Args:
        known: colors by frame number, changed in place.
        start: number of the window's first frame.
        found: colors of the window's frames; None if the object is never visible in the window.
    """
    shared = sum(start + index in known for index in range(len(found)))
    for index, now in enumerate(found):
        before = known.get(start + index)
        if before is None or now is None:
            known[start + index] = before if now is None else now
        else:
            known[start + index] = before.faded(now, (index + 1) / (shared + 1))


def blend_colors(painted: UInt8Array, hidden: BoolArray, colors: HiddenColors) -> UInt8Array:
    """Blend propagated colors into a painted frame, as far as they can be relied on.

    Args:
        painted: output of the network, uint8 ``[H, W, 3]``.
        hidden: pixels to blend, bool ``[H, W]``.
        colors: colors of these pixels.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    blended = painted[hidden] + colors.sure[:, None] * (colors.copied - painted[hidden])
    result = painted.copy()
    result[hidden] = np.rint(np.clip(blended, 0, 255)).astype(np.uint8)
    return result
