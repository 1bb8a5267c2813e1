"""Registration of frames: evidence of an object (visible, background, colors), and the search for its placement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from amodal_diffusion.frames.masks import bounds
from amodal_diffusion.propagation.placement import (
    Placement,
    Points,
    in_cells,
    lattice,
    look_up,
    to_frame,
    to_object,
)
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

SEEN, ELSEWHERE = 0, 1
CHANNELS = 5
"""Visible, background, and three color channels."""
_FARTHEST_COLOR = 3.0  # standard deviations


Palette = tuple[FloatArray, np.float32]
"""Mean color of an object, ``[3]``, and the standard deviation about it, in gray levels."""


def frame_evidence(
    rgb: UInt8Array, modal: BoolArray, elsewhere: FloatArray, *, block: int = 1, palette: Palette | None = None
) -> FloatArray:
    """Stack the evidence of a clip, averaged over blocks of pixels.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: modal (visible) masks, bool ``[F, H, W]``, not empty in every frame.
        elsewhere: background evidence in [0, 1], float32 ``[F, H, W]``.
        block: side of a cell in pixels; partial cells at the right and lower border are included.
        palette: :func:`object_palette` of these frames, if it is known already.

    Returns:
        float32 ``[F, 5, ceil(H / block), ceil(W / block)]``: visible and background in [0, 1], then the color of
            visible
        pixels (0 outside), in standard deviations from the object's mean color in the clip.
    """
    mean, spread = palette or object_palette(rgb, modal)
    height, width = (-(-length // block) for length in modal.shape[1:])
    evidence = np.zeros((len(modal), CHANNELS, height, width), dtype=np.float32)
    for into, picture, visible, missing in zip(evidence, rgb, modal, elsewhere, strict=True):
        into[ELSEWHERE] = _averaged(missing[None], block)[0]
        # Everything else is 0 beside the cells that show the object. One frame at a time: float colors of a long clip
        # would not fit.
        (top, bottom), (left, right) = ((start // block, -(-stop // block)) for start, stop in bounds(visible))
        if bottom > top:
            box = slice(top * block, bottom * block), slice(left * block, right * block)
            shown = visible[box]
            color = np.clip((picture[box] - mean) / spread, -_FARTHEST_COLOR, _FARTHEST_COLOR) * shown[..., None]
            layers = _averaged(np.concatenate([shown[None], color.transpose(2, 0, 1)]), block)
            into[SEEN, top:bottom, left:right] = layers[0]
            into[ELSEWHERE + 1 :, top:bottom, left:right] = layers[1:]
    return evidence


def _averaged(layers: FloatArray, block: int) -> FloatArray:
    """Means of ``[C, H, W]`` over blocks of pixels; a block at the border that is cut off is filled up with 0."""
    if block == 1:
        return layers
    rows, columns = (np.arange(0, length, block) for length in layers.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(layers, rows, axis=1), columns, axis=2)
    return np.asarray(sums / block**2, dtype=np.float32)


def object_palette(rgb: UInt8Array, modal: BoolArray) -> Palette:
    """Mean color of the visible pixels, and their standard deviation about it over all channels.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal: modal (visible) masks, bool ``[F, H, W]``, not empty in every frame.
    """
    colors = rgb[modal].astype(np.float32)
    mean = colors.mean(axis=0)
    return mean, np.float32(np.sqrt(((colors - mean) ** 2).mean()) + 1.0)


COLOR_WEIGHT = 0.5
"""Score of a color channel one standard deviation off the mean in both frames; a pixel visible in both scores 1."""
DOUBT = 0.02
"""Penalty of a placement that is one usual step from the expected one in shift, rotation or scale."""
USUAL_SHIFT, USUAL_TURN, USUAL_SCALE = 0.25, 0.2, 0.1  # object sides, radians, logarithm


@dataclass(frozen=True)
class Search:
    """Placements to try around the expected one.

    Attributes:
        reach: largest shift in object sides.
        turns: rotations in radians.
        scales: logarithms of the scale factors.
    """

    reach: float
    turns: tuple[float, ...]
    scales: tuple[float, ...]


class Aligner:
    """Evidence of a clip at one resolution, and the search for an object's placement in it."""

    def __init__(
        self,
        rgb: UInt8Array,
        modal: BoolArray,
        elsewhere: FloatArray,
        *,
        side: int,
        cells: int,
        palette: Palette | None = None,
    ) -> None:
        """Compute the evidence.

        Args:
            rgb: frames, uint8 ``[F, H, W, 3]``.
            modal: modal (visible) masks, bool ``[F, H, W]``, not empty in every frame.
            elsewhere: background evidence in [0, 1], float32 ``[F, H, W]``.
            side: longest side of the object, in pixels.
            cells: largest number of cells along that side; larger objects are averaged over blocks of pixels.
            palette: :func:`object_palette` of these frames, if it is known already.
        """
        self._block = max(1, -(-side // cells))
        self._side = side / self._block
        self._evidence = frame_evidence(rgb, modal, elsewhere, block=self._block, palette=palette)
        # The hidden part may extend beyond the visible part. An odd number of cells has a center cell.
        self._cells = 2 * int(np.ceil(self._side)) + 1

    def view(self, frame: int, placement: Placement) -> FloatArray:
        """Evidence of a frame in object coordinates.

        Args:
            frame: frame number, from 0.
            placement: placement of the object in this frame, in pixels, float64 ``[4]``.

        Returns:
            float32 ``[5, n, n]``, centered on the object's origin.
        """
        rows, columns = to_frame(self._in_cells(placement), *lattice(self._cells))
        return look_up(self._evidence[frame], rows, columns)

    def align(self, frame: int, model: FloatArray, expected: Placement, search: Search) -> Placement:
        """Find the placement at which a model of the object agrees best with a frame.

        Pixels visible in both raise the score, and so do similar colors. Pixels visible in one and background in the
        other lower it.

        Args:
            frame: frame number, from 0.
            model: evidence of the object in object coordinates, as from `view`, float32 ``[5, n, n]``.
            expected: center of the search, in pixels, float64 ``[4]``.
            search: shifts, rotations and scales to try.

        Returns:
            placement in pixels, float64 ``[4]``.
        """
        turns, scales = (grid.ravel() for grid in np.meshgrid(search.turns, search.scales))
        start = self._in_cells(expected)
        models = self._moved(model, start, turns, scales)  # [5, K, n, n]
        reach = int(np.ceil(search.reach * self._side)) + 1
        shifts = np.arange(-reach, reach + 1) + np.rint(start[:2])[:, None] - start[:2, None]  # [2, S]
        agreement = self._agreement(frame, models, np.rint(start[:2]), reach)  # [K, S, S]
        mass = max(1.0, float(model[SEEN].sum()) * np.exp(2 * start[2]))  # one for all scales, or the smallest wins
        down, right = (shifts / (USUAL_SHIFT * self._side + 2)) ** 2
        changed = (turns / USUAL_TURN) ** 2 + (scales / USUAL_SCALE) ** 2
        score = agreement / mass - DOUBT * (down[:, None] + right + changed[:, None, None])
        best, row, column = np.unravel_index(int(score.argmax()), score.shape)
        step = shifts[0, row] * self._block, shifts[1, column] * self._block, scales[best], turns[best]
        return np.asarray(expected + np.asarray(step))

    def _agreement(self, frame: int, models: FloatArray, center: Placement, reach: int) -> FloatArray:
        """Score of models ``[5, K, n, n]`` in a frame around a cell, for each shift by up to ``reach`` cells."""
        size = fft.next_fast_len(self._cells + 2 * reach, real=True)
        window = np.arange(size) - self._cells // 2 - reach
        scene = look_up(self._evidence[frame], center[0] + window[:, None], center[1] + window)
        wanted = COLOR_WEIGHT * scene
        wanted[SEEN], wanted[ELSEWHERE] = scene[SEEN] - scene[ELSEWHERE], -scene[SEEN]
        spectra = fft.rfft2(models, (size, size)).conj() * fft.rfft2(wanted)[:, None]
        agreement: FloatArray = fft.irfft2(spectra.sum(axis=0), (size, size))
        return agreement[:, : 2 * reach + 1, : 2 * reach + 1]

    def _moved(self, model: FloatArray, start: Placement, turns: Points, scales: Points) -> FloatArray:
        """The model rotated and scaled about its center in each way, ``[5, K, n, n]``."""
        nowhere = np.zeros_like(turns)
        placements = np.stack([nowhere, nowhere, start[2] + scales, start[3] + turns])[..., None, None]
        rows, columns = to_object(placements, *lattice(self._cells))
        return look_up(model, rows + self._cells // 2, columns + self._cells // 2)

    def _in_cells(self, placement: Placement) -> Placement:
        return in_cells(placement, self._block)
