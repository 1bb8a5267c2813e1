"""Hidden colors without learning: one mean color, or a copy from the frame that shows most of the object."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.propagation.motion import background_evidence, estimate_motion
from amodal_diffusion.propagation.placement import interpolate, to_frame, to_object
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array, VideoClip

MOSTLY = 0.5
"""A frame shows a point if more than this share of the interpolated modal mask is there."""


def fill_with_mean_color(rgb: UInt8Array, modal_mask: BoolArray) -> UInt8Array:
    """Paint every pixel with the mean color of the object's visible pixels in the clip.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal_mask: bool ``[F, H, W]``, not empty in every frame.

    Returns:
        uint8 ``[F, H, W, 3]`` of one color.
    """
    color = rgb[modal_mask].mean(axis=0)
    return np.broadcast_to(np.rint(color).astype(np.uint8), rgb.shape)


def copy_best_seen(clip: VideoClip, amodal_mask: BoolArray, depth: FloatArray | None) -> UInt8Array:
    """Copy each hidden pixel from another frame, aligned by the object's motion.

    Of the frames that show the pixel's point, the one with the largest modal mask is used.

    Args:
        clip: frames and modal masks.
        amodal_mask: bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; makes the motion estimate better. None for none.

    Returns:
        uint8 ``[F, H, W, 3]``: the frames with hidden pixels painted. Hidden pixels that no frame shows get the mean
        visible color of the clip.
    """
    modal = clip.modal_mask
    placements = estimate_motion(clip.rgb, modal, background_evidence(modal, depth)).placements
    best_first = np.argsort(-modal.sum(axis=(1, 2)), kind="stable")
    painted = clip.rgb.copy()
    painted[amodal_mask & ~modal] = np.rint(clip.rgb[modal].mean(axis=0))
    for frame, picture in enumerate(painted):
        rows, columns = np.nonzero(amodal_mask[frame] & ~modal[frame])
        for other in best_first:
            if other == frame or not len(rows):
                continue
            points = to_object(placements[frame], rows.astype(np.float64), columns.astype(np.float64))
            colors, seen = interpolate(clip.rgb[other], modal[other], *to_frame(placements[other], *points))
            shown = seen > MOSTLY
            picture[rows[shown], columns[shown]] = np.rint(colors[shown]).astype(np.uint8)
            rows, columns = rows[~shown], columns[~shown]
    return painted
