"""Video colors: HDR and wide gamuts become BT.709 as a display shows them; all else stays as it is."""

from __future__ import annotations

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

from amodal_diffusion.types import UInt8Array

_WIDE = {int(ColorPrimaries.BT2020): "BT.2020", int(ColorPrimaries.SMPTE432): "Display P3"}
_HDR = {int(ColorTrc.ARIB_STD_B67): "HLG", int(ColorTrc.SMPTE2084): "PQ"}


def source_color(frame: VideoFrame) -> str:
    """Names of a frame's wide primaries and HDR transfer, such as ``BT.2020 HLG``; empty for what is read as BT.709."""
    names = (_WIDE.get(int(frame.color_primaries)), _HDR.get(int(frame.color_trc)))
    return " ".join(name for name in names if name)


def to_rgb(frame: VideoFrame) -> UInt8Array:
    """A frame as 8-bit BT.709.

    FFmpeg's scaler converts primaries and transfer, HLG with its OOTF for a display of 1,000 cd/m2. White is 75 % of an
    HLG signal, or 203 cd/m2 of PQ; what is brighter is clipped. One thread: FFmpeg converts bands of a frame at once,
    and at odd widths one may spoil another's rim.

    Args:
        frame: a decoded frame, whose tags say what its colors are.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    if source_color(frame):
        frame = frame.reformat(
            format="rgb24", dst_color_primaries=ColorPrimaries.BT709, dst_color_trc=ColorTrc.BT709, threads=1
        )
    return np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)
