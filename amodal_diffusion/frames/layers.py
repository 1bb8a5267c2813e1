"""RGBA layers of objects: compositing and its error, soft edges, premultiplied alpha."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from amodal_diffusion.config import Alpha
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

_OPAQUE = 255


@dataclass(frozen=True)
class Difference:
    """Difference of two images in some pixels of one or more frames; a sum of differences covers the pixels of all.

    Attributes:
        pixels: number of compared pixels.
        differing: number of compared pixels that differ in at least one channel.
        largest: largest absolute difference in a channel, 0 to 255.
        total: sum of the absolute differences over all pixels and channels.
    """

    pixels: int = 0
    differing: int = 0
    largest: int = 0
    total: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            self.pixels + other.pixels,
            self.differing + other.differing,
            max(self.largest, other.largest),
            self.total + other.total,
        )

    @property
    def mean(self) -> float:
        """Mean absolute difference over pixels and channels, 0 to 255; 0 if no pixel was compared."""
        return self.total / (3 * self.pixels) if self.pixels else 0.0

    @property
    def share(self) -> float:
        """Share of the pixels that differ; 0 if no pixel was compared."""
        return self.differing / self.pixels if self.pixels else 0.0


def recompose(rgb: UInt8Array, modal: Sequence[BoolArray], back_to_front: Iterable[UInt8Array]) -> UInt8Array:
    """Composite the layers of the objects over the background.

    The background is the input frame, black where an object is visible. Visible pixels that no layer covers therefore
    stay black.

    Args:
        rgb: input frame, uint8 ``[H, W, 3]``.
        modal: modal mask of each object, bool ``[H, W]`` each.
        back_to_front: layers with straight alpha, uint8 ``[H, W, 4]`` each, farthest first; consumed one at a time.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    picture = rgb.copy()
    picture[_seen(modal)] = 0
    for layer in back_to_front:
        _lay_over(picture, layer)
    return picture


def compare(recomposed: UInt8Array, rgb: UInt8Array, modal: Sequence[BoolArray]) -> Difference:
    """Compare a composited frame with the input, in the pixels where an object is visible.

    Other pixels are background, or belong to an object that the input hides behind something without a mask.

    Args:
        recomposed: result of :func:`recompose`, uint8 ``[H, W, 3]``.
        rgb: input frame, uint8 ``[H, W, 3]``.
        modal: modal mask of each object, bool ``[H, W]`` each.
    """
    seen = _seen(modal)
    apart = np.abs(recomposed[seen].astype(np.int16) - rgb[seen])  # [pixels, 3]
    return Difference(
        pixels=len(apart),
        differing=int(apart.any(axis=-1).sum()),
        largest=int(apart.max(initial=0)),
        total=int(apart.sum()),
    )


def _seen(modal: Sequence[BoolArray]) -> BoolArray:
    seen: BoolArray = np.logical_or.reduce(list(modal))
    return seen


def style_layer(rgba: UInt8Array, *, soft_edge: int = 0, alpha: Alpha = "straight") -> UInt8Array:
    """Apply a soft edge and the requested kind of alpha to a layer.

    The edge is added outside the object, in the colors of its border; the object's own pixels do not change.

    Args:
        rgba: uint8 ``[H, W, 4]``, straight alpha 0 or 255.
        soft_edge: width in pixels over which alpha falls from 255 to 0; 0 keeps a hard edge.
        alpha: ``"premultiplied"`` multiplies colors by alpha, as compositing programs expect.

    Returns:
        uint8 ``[H, W, 4]``.
    """
    if soft_edge:
        rgba, distance = _spread(rgba, soft_edge)
        opacity = np.clip(1 - distance / (soft_edge + 1), 0, 1)
        opacity[distance > soft_edge] = 0
        rgba[..., 3] = np.rint(255 * opacity)
        rgba[rgba[..., 3] == 0] = 0
    return premultiply(rgba) if alpha == "premultiplied" else rgba


def premultiply(rgba: UInt8Array) -> UInt8Array:
    """Multiply colors by alpha.

    Args:
        rgba: uint8 ``[..., 4]``, straight alpha.
    """
    result = rgba.copy()
    scaled = rgba[..., :3].astype(np.uint16) * rgba[..., 3:].astype(np.uint16)  # at most 255 x 255
    result[..., :3] = (scaled + 127) // 255
    return result


def over_color(rgba: UInt8Array, color: Sequence[int]) -> UInt8Array:
    """Composite a layer over one color.

    Args:
        rgba: uint8 ``[H, W, 4]``, straight alpha.
        color: red, green and blue, 0 to 255.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    picture = np.empty((*rgba.shape[:2], 3), np.uint8)
    picture[:] = color
    return _lay_over(picture, rgba)


def _lay_over(picture: UInt8Array, layer: UInt8Array) -> UInt8Array:
    """Composite a layer with straight alpha over a picture, uint8 ``[H, W, 3]``, in place."""
    covered = layer[..., 3] > 0  # a layer is empty in most of a frame
    pixels = layer[covered].astype(np.uint16)  # [pixels, 4]
    rgb, alpha = pixels[:, :3], pixels[:, 3:]
    mixed = rgb * alpha + picture[covered] * (_OPAQUE - alpha)  # at most 255 * 255, which fits 16 bits
    picture[covered] = (mixed + _OPAQUE // 2) // _OPAQUE
    return picture


def extended_colors(rgb: UInt8Array, known: BoolArray, wanted: BoolArray) -> UInt8Array:
    """Colors of the nearest known pixels.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        known: pixels whose colors count, bool ``[H, W]``.
        wanted: pixels that need a color, bool ``[H, W]``; none of them if none is known.

    Returns:
        uint8 ``[n, 3]``, in the order of ``np.nonzero``.
    """
    row, column = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(rgb[row[wanted], column[wanted]])


def color_outline(whole: UInt8Array, modal: BoolArray, amodal: BoolArray, solid: BoolArray) -> UInt8Array:
    """Color the hidden pixels along an object's outline as the object is further inside.

    A network that paints on white mixes white into them, which shows as a light rim over any other background.

    Args:
        whole: visible and painted pixels, uint8 ``[H, W, 3]``.
        modal: visible pixels, bool ``[H, W]``; those at their border do not count, as colors mix there too.
        amodal: pixels of the object, bool ``[H, W]``.
        solid: pixels far enough from the outline, bool ``[H, W]``.

    Returns:
        uint8 ``[H, W, 3]``; ``whole`` itself where nothing is to be colored, or nothing gives a color.
    """
    hidden = amodal & ~modal
    wanted = hidden & ~solid
    known = (hidden & solid) | ndimage.binary_erosion(modal)
    if not wanted.any() or not known.any():
        return whole
    result = whole.copy()
    result[wanted] = extended_colors(whole, known, wanted)
    return result


def carry_color(rgba: UInt8Array, reach: int) -> UInt8Array:
    """Extend the border colors into transparent pixels, so that a codec mixes no black into the border.

    Args:
        rgba: uint8 ``[H, W, 4]``, straight alpha.
        reach: distance in pixels.
    """
    return _spread(rgba, reach)[0]


def _spread(rgba: UInt8Array, reach: int) -> tuple[UInt8Array, FloatArray]:
    """Fill transparent pixels near the object with the color of the nearest object pixel.

    Returns:
        the layer with unchanged alpha; and distances to the object in pixels, float32 ``[H, W]``, infinite outside the
        object's bounding box padded by ``reach``.
    """
    inside: BoolArray = rgba[..., 3] > 0
    result, distance = rgba.copy(), np.full(inside.shape, np.inf, np.float32)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return result, distance
    box = np.s_[
        max(0, int(rows[0]) - reach) : int(rows[-1]) + 1 + reach,
        max(0, int(columns[0]) - reach) : int(columns[-1]) + 1 + reach,
    ]
    away, (row, column) = ndimage.distance_transform_edt(~inside[box], return_indices=True)
    near = (away > 0) & (away <= reach)
    part = result[box]
    part[near, :3] = part[row[near], column[near], :3]
    distance[box] = away
    return result, distance
