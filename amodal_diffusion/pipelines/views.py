"""Several views of one window, whose scores are averaged: what the network says of one, it should say of all."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from amodal_diffusion.models.checkpoint import SamplingDefaults
from amodal_diffusion.pipelines.amodal_segmentation import mask_score

_TIME, _WIDTH = 1, -1  # axes of a window [1 or K, F, C, H, W]
# In the order in which they are taken: as it is; mirrored; both of these backwards in time.
_VIEWS: tuple[tuple[int, ...], ...] = ((), (_WIDTH,), (_TIME,), (_TIME, _WIDTH))


class WindowSampler(Protocol):
    """What samples one window."""

    def __call__(self, modal: Tensor, guide: Tensor | None, *, backwards: bool) -> Tensor:
        """From ``[1, F, C, H, W]`` in [-1, 1] to K answers, float32 ``[K, F, 3, H, W]`` in [-1, 1]."""
        ...


def window_scores(sample: WindowSampler, modal: Tensor, guide: Tensor | None, *, sampling: SamplingDefaults) -> Tensor:
    """Stage 1's scores of a window: the mean over views, and with depth what other frames show of the object.

    Args:
        sample: samples a window.
        modal: as the model sees it, float ``[1, F, 1, H, W]`` in [-1, 1], with ``other_frames`` in grey what they show.
        guide: depth, as ``modal``, or None.
        sampling: says how many views, and what other frames count (``other_frames_weight``).

    Returns:
        float32 ``[F, K, H, W]`` in [0, 1].
    """
    scores = mean_score(sample, modal, guide, views=sampling.views)
    weight = sampling.other_frames_weight
    if guide is None or weight == 0:
        return scores
    shown = (modal[0] + 1).clamp(max=1.0).to(scores)  # [F, 1, H, W]: 1 where visible, else the share of the others
    return (scores + weight * shown) / (1 + weight)


def mean_score(sample: WindowSampler, modal: Tensor, guide: Tensor | None, *, views: int) -> Tensor:
    """Scores of stage 1's answers, the mean over views of the window, each turned back before.

    Args:
        sample: samples a window.
        modal: float ``[1, F, 1, H, W]`` in [-1, 1].
        guide: as ``modal``, or None.
        views: 1, 2 (also mirrored) or 4 (both also backwards in time).

    Returns:
        float32 ``[F, K, H, W]`` in [0, 1], see :func:`~amodal_diffusion.pipelines.amodal_segmentation.mask_score`.
    """
    scores = []
    for axes in _VIEWS[:views]:
        video = sample(modal.flip(axes), None if guide is None else guide.flip(axes), backwards=_TIME in axes)
        scores.append(mask_score(video.flip(axes)))  # [K, F, H, W]
    return torch.stack(scores).mean(dim=0).transpose(0, 1)
