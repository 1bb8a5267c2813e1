"""Two routines that transformers' SAM 3 would fetch from the hub as compiled code, on the libraries that are here."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_EIGHT = np.ones((3, 3), np.int8)  # pixels that touch at a corner belong together


class MaskRoutines:
    """What the library calls on its module's ``cv_utils_kernel``; without it, it leaves both steps out."""

    def generic_nms(self, ious: Tensor, scores: Tensor, threshold: float, *, use_iou_matrix: bool) -> Tensor:  # noqa: ARG002
        """Leave out what overlaps a surer one.

        Args:
            ious: float ``[n, n]``, of each with each.
            scores: float ``[n]``.
            threshold: an overlap above it is too much.
            use_iou_matrix: always true here.

        Returns:
            int64 ``[k]``, those that stay, surest first.
        """
        overlaps = (ious > threshold).cpu()
        kept: list[int] = []
        for index in scores.argsort(descending=True).tolist():
            if not overlaps[index, kept].any():
                kept.append(index)
        return torch.tensor(kept, dtype=torch.long, device=ious.device)

    def cc_2d(self, mask: Tensor, *, get_counts: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Find connected parts.

        Args:
            mask: uint8 ``[n, 1, h, w]``.
            get_counts: always true here.

        Returns:
            number of the part at each pixel and its area, int32 ``[n, 1, h, w]``; 0 outside the mask.
        """
        labels, counts = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32)
        for index, picture in enumerate(mask[:, 0].cpu().numpy()):
            labels[index, 0], _ = ndimage.label(picture, structure=_EIGHT)
            areas = np.bincount(labels[index, 0].ravel())
            areas[0] = 0
            counts[index, 0] = areas[labels[index, 0]]
        return torch.from_numpy(labels).to(mask.device), torch.from_numpy(counts).to(mask.device)


def use_routines(network: Any) -> None:  # noqa: ANN401
    """Have the library take these routines, and never look for code on the hub.

    Args:
        network: ``Sam3VideoModel``.
    """
    vars(sys.modules[type(network).__module__])["cv_utils_kernel"] = MaskRoutines()
