"""Put the layers of a frame back together and say how far that is from what the input shows of the objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from amodal_diffusion.types import BoolArray, UInt8Array

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
