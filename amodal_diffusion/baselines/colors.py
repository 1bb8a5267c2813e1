"""Hidden colors without learning: one mean color, or a copy from the frame that shows most of the object."""

from __future__ import annotations

from itertools import starmap

import numpy as np

from amodal_diffusion.frames.cuts import clip_cuts, shots_of
from amodal_diffusion.frames.layers import extended_colors
from amodal_diffusion.propagation.motion import background_evidence, estimate_motion
from amodal_diffusion.propagation.placement import Placement, WeightedPixels, to_frame, to_object
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


def fill_with_nearest(rgb: UInt8Array, modal_mask: BoolArray, amodal_mask: BoolArray) -> UInt8Array:
    """Paint each hidden pixel with the color of the nearest visible pixel of its frame.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal_mask: bool ``[F, H, W]``, not empty in every frame.
        amodal_mask: bool ``[F, H, W]``.

    Returns:
        uint8 ``[F, H, W, 3]``: the frames with hidden pixels painted; in a frame that shows nothing of the object, with
        its mean visible color in the clip.
    """
    painted = rgb.copy()
    painted[amodal_mask & ~modal_mask] = np.rint(rgb[modal_mask].mean(axis=0)).astype(np.uint8)
    for frame, modal, amodal in zip(painted, modal_mask, amodal_mask, strict=True):
        hidden = amodal & ~modal
        if modal.any() and hidden.any():
            frame[hidden] = extended_colors(frame, modal, hidden)
    return painted


def copy_best_seen(clip: VideoClip, amodal_mask: BoolArray, depth: FloatArray | None) -> UInt8Array:
    """Copy each hidden pixel from another frame of its shot, aligned by the object's motion.

    Of the frames that show the pixel's point, the one with the largest modal mask is used.

    Args:
        clip: frames and modal masks.
        amodal_mask: bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; makes the motion estimate better. None for none.

    Returns:
        uint8 ``[F, H, W, 3]``: the frames with hidden pixels painted. Hidden pixels that no frame shows get the mean
        visible color of the shot; in a shot that never shows the object, that of the clip.
    """
    painted = clip.rgb.copy()
    for shot in starmap(slice, shots_of(clip.num_frames, clip_cuts(clip))):
        rgb, modal, hidden = clip.rgb[shot], clip.modal_mask[shot], amodal_mask[shot] & ~clip.modal_mask[shot]
        if modal.any():
            elsewhere = background_evidence(modal, None if depth is None else depth[shot])
            painted[shot] = _copy_in_shot(rgb, modal, hidden, estimate_motion(rgb, modal, elsewhere).placements)
        else:
            painted[shot][hidden] = np.rint(clip.rgb[clip.modal_mask].mean(axis=0))
    return painted


def _copy_in_shot(rgb: UInt8Array, modal: BoolArray, hidden: BoolArray, placements: Placement) -> UInt8Array:
    """The frames of a shot with hidden pixels painted; the object is visible in at least one."""
    best_first = np.argsort(-modal.sum(axis=(1, 2)), kind="stable")
    painted = rgb.copy()
    painted[hidden] = np.rint(rgb[modal].mean(axis=0))
    visible = [WeightedPixels.of(*views) for views in zip(rgb, modal, strict=True)]
    for frame, picture in enumerate(painted):
        rows, columns = np.nonzero(hidden[frame])
        for other in best_first:
            if other == frame or not len(rows):
                continue
            points = to_object(placements[frame], rows.astype(np.float64), columns.astype(np.float64))
            shown, colors, _ = visible[other].interpolate(*to_frame(placements[other], *points), above=MOSTLY)
            picture[rows[shown], columns[shown]] = np.rint(colors.T).astype(np.uint8)
            rows, columns = np.delete(rows, shown), np.delete(columns, shown)
    return painted
