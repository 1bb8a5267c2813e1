"""Edges of layers: soft ones, premultiplied colours, and colour carried over the edge for codecs that blur it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

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
