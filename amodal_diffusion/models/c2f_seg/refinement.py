"""Convolutional refinement of C2F-Seg: coarse mask and image features to visible and amodal masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal_diffusion.models.c2f_seg.config import RefinementConfig


class Branch(nn.Module):
    """From the coarsest refined features to the logits of one mask, at half the size of the crop.

    Args:
        fine: channels of the image features of stages 1 and 2.
        widths: channels after the last three reductions.
        entering: channels of the input.
    """

    def __init__(self, fine: tuple[int, int], widths: Sequence[int], entering: int) -> None:
        super().__init__()
        self.skip2 = nn.Conv2d(fine[1], entering, 1)
        self.reduce2 = _reduction(entering, widths[0])
        self.skip1 = nn.Conv2d(fine[0], widths[0], 1)
        self.reduce1 = _reduction(widths[0], widths[1])
        self.logits = nn.Conv2d(widths[1], 1, 3, padding=1)

    def forward(self, x: Tensor, features: Sequence[Tensor], size: int) -> Tensor:
        """Logits, float ``[N, 1, S/2, S/2]``, for crops of ``size`` S."""
        first, second = features[0], features[1]
        x = _nearest(x + self.skip2(second), first)
        x = self.reduce2(x) + self.skip1(first)
        x = F.interpolate(x, size=(size // 2, size // 2), mode="nearest")
        return self.logits(self.reduce1(x))


class Refinement(nn.Module):
    """Refines a coarse mask in the places to which attention from the mask to the image points.

    Args:
        config: widths, kind of attention and upsampling.
        channels: channels of the four stages of image features, finest first.
    """

    def __init__(self, config: RefinementConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        widths, deep = config.widths, channels[3]
        self.query = nn.Conv2d(deep, deep, 1)
        if config.attention == "released":
            self.squeeze = nn.Conv2d(deep, widths[0], 3, padding=1)
        else:
            self.squeeze = nn.Conv2d(2 * deep + 1, widths[0] + 2, 3, padding=1)
        joined = widths[0] + 2
        self.fuse = nn.Sequential(_reduction(joined, joined), _reduction(joined, widths[1]))
        self.skip3 = nn.Conv2d(channels[2], widths[1], 1)
        self.reduce3 = _reduction(widths[1], widths[2])
        fine = (channels[0], channels[1])
        self.visible = Branch(fine, widths[3:], widths[2])
        self.amodal = Branch(fine, widths[3:], widths[2])

    def forward(self, features: Sequence[Tensor], coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Predict both masks.

        Args:
            features: image features, finest first, float ``[N, C, h, w]`` each.
            coarse: coarse amodal mask, float ``[N, 1, S, S]`` in [0, 1].

        Returns:
            logits of the visible and of the amodal mask, float ``[N, 1, S, S]`` each.
        """
        size = coarse.shape[-1]
        deep = self.query(features[3])
        mask = _nearest(coarse, deep)
        if self.config.attention == "released":
            attention = spatial_attention(deep, mask, scale=self.config.attention_scale)
            x = torch.cat([self.squeeze(deep), attention, mask], dim=1)
        else:
            x = self.squeeze(torch.cat([deep, channel_gate(deep, mask), mask], dim=1))
        x = self.fuse(x) + self.skip3(features[2])
        x = self.reduce3(_nearest(x, features[1]))
        visible, amodal = (branch(x, features, size) for branch in (self.visible, self.amodal))
        return self._to_size(visible, size), self._to_size(amodal, size)

    def _to_size(self, logits: Tensor, size: int) -> Tensor:
        if self.config.upsample == "nearest":
            return F.interpolate(logits, size=(size, size), mode="nearest")
        return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)


def spatial_attention(features: Tensor, mask: Tensor, *, scale: float) -> Tensor:
    """Similarity of each position to the mean feature inside the mask, as in the released code.

    Args:
        features: float ``[N, D, h, w]``.
        mask: float ``[N, 1, h, w]`` in [0, 1].
        scale: factor of the dot products; with 1 and many channels the result is close to one-hot.

    Returns:
        float ``[N, 1, h, w]``, whose sum over the positions is 1.
    """
    prototype = (features * mask).sum(dim=(2, 3)) / (mask.sum(dim=(2, 3)) + 1e-6)
    scores = torch.einsum("nd,ndhw->nhw", prototype, features).float() * scale
    return scores.flatten(1).softmax(dim=1).reshape(mask.shape).to(features.dtype)


def channel_gate(features: Tensor, mask: Tensor) -> Tensor:
    """Weight each channel by its sum inside the mask: equation 8 of the paper, read literally.

    Args:
        features: float ``[N, D, h, w]``.
        mask: float ``[N, 1, h, w]`` in [0, 1].

    Returns:
        float ``[N, D, h, w]``.
    """
    scores = (features * mask).sum(dim=(2, 3)).float() / features.shape[1] ** 0.5
    return features * scores.softmax(dim=1)[:, :, None, None].to(features.dtype)


def _reduction(entering: int, leaving: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(entering, leaving, 3, padding=1), nn.BatchNorm2d(leaving), nn.ReLU())


def _nearest(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=tuple(like.shape[-2:]), mode="nearest")
