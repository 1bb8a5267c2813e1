"""Put the layers of a frame back together and say how far that is from what the input shows of the objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

_OPAQUE = 255


@dataclass(frozen=True)
class Difference:
    """What two pictures differ by, in some pixels of one frame or of many; the sum is that of all of them together.

    Attributes:
        pixels: that were compared.
        differing: those that differ in at least one channel.
        largest: absolute difference in one channel, of 255.
        total: of the absolute differences over all pixels and channels.
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
        """Mean absolute difference over pixels and channels, of 255; 0 where nothing was compared."""
        return self.total / (3 * self.pixels) if self.pixels else 0.0

    @property
    def share(self) -> float:
        """Share of the pixels that differ; 0 where nothing was compared."""
        return self.differing / self.pixels if self.pixels else 0.0


def recompose(rgb: UInt8Array, modal: Sequence[BoolArray], back_to_front: Iterable[UInt8Array]) -> UInt8Array:
    """Lay the objects' layers over the background.

    The background is the input where no object is seen, and black where one is: what a layer does not bring back
    stays black.

    Args:
        rgb: frame of the input, uint8 ``[H, W, 3]``.
        modal: what is seen of each object, bool ``[H, W]`` each.
        back_to_front: layers with straight alpha, uint8 ``[H, W, 4]`` each, the farthest first; taken one at a time.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    picture = rgb.copy()
    picture[_seen(modal)] = 0
    for layer in back_to_front:
        covered = layer[..., 3] > 0  # elsewhere nothing changes, and a layer is empty in most of a frame
        pixels = layer[covered].astype(np.uint16)  # [pixels, 4]
        colour, alpha = pixels[:, :3], pixels[:, 3:]
        mixed = colour * alpha + picture[covered] * (_OPAQUE - alpha)  # at most 255 * 255, which 16 bits hold
        picture[covered] = (mixed + _OPAQUE // 2) // _OPAQUE
    return picture


def compare(recomposed: UInt8Array, rgb: UInt8Array, modal: Sequence[BoolArray]) -> Difference:
    """Hold a frame that was put together against the input, in the pixels where an object is seen.

    Other pixels are the background's own, or show an object that the input hides behind something without a mask.

    Args:
        recomposed: of :func:`recompose`, uint8 ``[H, W, 3]``.
        rgb: frame of the input, uint8 ``[H, W, 3]``.
        modal: what is seen of each object, bool ``[H, W]`` each.
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


Alpha = Literal["straight", "premultiplied"]


def style_layer(rgba: UInt8Array, *, soft_edge: int = 0, alpha: Alpha = "straight") -> UInt8Array:
    """Give a layer a soft edge and the kind of alpha that is wanted.

    The edge is added around the object, in the colours of its rim: the object's own pixels, and so all that the input
    shows of it, stay as they are.

    Args:
        rgba: uint8 ``[H, W, 4]``, straight alpha 0 or 255.
        soft_edge: pixels over which alpha falls from 255 to 0; 0 leaves the edge hard.
        alpha: ``"premultiplied"`` multiplies colours with alpha, as compositing programs want them.

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
    """Colours times alpha.

    Args:
        rgba: uint8 ``[..., 4]``, straight alpha.
    """
    result = rgba.copy()
    scaled = rgba[..., :3].astype(np.uint16) * rgba[..., 3:].astype(np.uint16)  # at most 255 x 255
    result[..., :3] = (scaled + 127) // 255
    return result


def carry_colour(rgba: UInt8Array, reach: int) -> UInt8Array:
    """Carry the colours of the rim over the edge, where alpha is 0; a codec then mixes no black into the rim.

    Args:
        rgba: uint8 ``[H, W, 4]``, straight alpha.
        reach: pixels.
    """
    return _spread(rgba, reach)[0]


def _spread(rgba: UInt8Array, reach: int) -> tuple[UInt8Array, FloatArray]:
    """Fill colours around what is not transparent from the nearest pixel of it.

    Returns:
        the layer, alpha as it was; and distances in pixels, float32 ``[H, W]``, infinite beyond what was looked at.
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
