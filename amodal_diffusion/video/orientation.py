"""Turn and mirror frames by a video's display matrix: phones store every clip as the sensor lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from amodal_diffusion.types import UInt8Array


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is meant to be seen; quarter turns and mirror images only.

    Attributes:
        swap_sides: exchange rows and columns, before the rest.
        flip_rows: turn upside down.
        flip_columns: exchange left and right.
    """

    swap_sides: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def from_display_matrix(cls, data: bytes) -> Self:
        """Read FFmpeg's display matrix ``[[a, b, u], [c, d, v], [x, y, w]]``: x' = a x + c y, y' = b x + d y.

        Args:
            data: nine int32 in the machine's byte order; any other turn is taken to its nearest quarter.
        """
        (a, b), (c, d) = np.frombuffer(data, np.int32, count=9).reshape(3, 3)[:2, :2].astype(np.int64)
        if abs(b) > abs(a):
            return cls(True, bool(b < 0), bool(c < 0))
        return cls(False, bool(d < 0), bool(a < 0))

    def apply(self, rgb: UInt8Array) -> UInt8Array:
        """Turn a frame.

        Args:
            rgb: uint8 ``[H, W, 3]`` as stored.

        Returns:
            uint8 ``[H, W, 3]`` as meant, or ``[W, H, 3]``.
        """
        if self == Orientation():
            return rgb
        turned = rgb.swapaxes(0, 1) if self.swap_sides else rgb
        return np.ascontiguousarray(turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels after :meth:`apply`.

        Args:
            height: pixels as stored.
            width: pixels as stored.
        """
        return (width, height) if self.swap_sides else (height, width)
