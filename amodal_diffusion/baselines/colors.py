"""The baseline of stage 2 that copies each hidden pixel from the frame that shows it best."""

from __future__ import annotations

import numpy as np

from amodal_diffusion.propagation.motion import background_evidence, estimate_motion
from amodal_diffusion.propagation.placement import interpolate, to_frame, to_object
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array, VideoClip

MOSTLY = 0.5
"""What is visible of a point, at least, in a frame that shows it."""


def copy_best_seen(clip: VideoClip, amodal_mask: BoolArray, depth: FloatArray | None) -> UInt8Array:
    """Paint hidden pixels with the aligned point of the frame that shows most of the object, of those that show it.

    Args:
        clip: frames and modal masks, not empty in every frame.
        amodal_mask: the whole object, bool ``[F, H, W]``.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``, which helps to follow the object; None for none.

    Returns:
        uint8 ``[F, H, W, 3]``: the frames, with hidden pixels painted; those that no frame shows have the mean visible
        colour of the clip.
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
            colours, seen = interpolate(clip.rgb[other], modal[other], *to_frame(placements[other], *points))
            shown = seen > MOSTLY
            picture[rows[shown], columns[shown]] = np.rint(colours[shown]).astype(np.uint8)
            rows, columns = rows[~shown], columns[~shown]
    return painted
