"""The one check of arguments that the mask metrics share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from amodal_diffusion.types import InputError


def check_masks(**masks: npt.NDArray[np.generic]) -> None:
    """Require bool ``[F, H, W]`` of one shape.

    Args:
        masks: by the name that the message gives; the last sets the shape.

    Raises:
        InputError: if a dtype or a shape differs.
    """
    last = list(masks)[-1]
    shape = masks[last].shape
    for name, mask in masks.items():
        if mask.dtype != np.bool_ or mask.ndim != 3 or mask.shape != shape:
            raise InputError(
                f"{name}: expected bool [F, H, W] of the {last} mask's shape {list(shape)}, got {mask.dtype} "
                f"{list(mask.shape)}; resize with video.masks.resize_masks"
            )
