"""The loss of S-AModal: focal and Dice at the size of the images, and optionally the error of the predicted IoU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal_diffusion.models.s_amodal.network import SAModal
from amodal_diffusion.training.s_amodal.images import PromptBatch
from amodal_diffusion.training.s_amodal.settings import Focal, MaskLossSettings

ALPHA, GAMMA = 0.8, 2.0
"""Factor and exponent of the focal loss in the released code."""


class SAModalObjective(nn.Module):
    """Loss of a batch of images, through the image encoder, so that the adapters get gradients.

    Args:
        model: its adapters and mask decoder are trained, as its configuration says.
        settings: which losses.
    """

    def __init__(self, model: SAModal, settings: MaskLossSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        if not settings.iou_weight:  # nothing is to change a head that gets no gradient, not even weight decay
            model.sam.mask_decoder.iou_prediction_head.requires_grad_(requires_grad=False)

    def forward(self, batch: PromptBatch, generator: torch.Generator, step: int) -> Tensor:  # noqa: ARG002 - the loop's
        """Loss of a step.

        Args:
            batch: images, points and masks.
            generator: unused; the points are drawn with the images.
            step: unused.
        """
        logits, predicted = self.model(batch.pixels, batch.points)  # [B, 1, s, s], [B, 1]
        whole = [frame.invert(one[None].float())[0, 0] for frame, one in zip(batch.geometry, logits, strict=True)]
        found, truth = torch.cat([one.flatten() for one in whole]), torch.cat([one.flatten() for one in batch.amodal])
        loss = self.settings.focal_weight * focal_loss(found, truth, kind=self.settings.focal) + dice_loss(found, truth)
        if self.settings.iou_weight:
            true = torch.stack(
                [_iou(one.detach() > 0, mask > 0.5) for one, mask in zip(whole, batch.amodal, strict=True)]
            )
            loss = loss + self.settings.iou_weight * (predicted[:, 0].float() - true).abs().mean()
        return loss


def focal_loss(logits: Tensor, truth: Tensor, *, kind: Focal) -> Tensor:
    """Focal loss with factor 0.8 and exponent 2.

    Args:
        logits: float, any shape.
        truth: 0 or 1, of the same shape.
        kind: as `MaskLossSettings.focal`.
    """
    error = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if kind == "batch_mean":
        error = error.mean()
    return (ALPHA * (1 - torch.exp(-error)) ** GAMMA * error).mean()


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """One minus the Dice coefficient of all values together, with 1 added to both its terms."""
    share = logits.sigmoid()
    return 1 - (2 * (share * truth).sum() + 1) / (share.sum() + truth.sum() + 1)


def parameter_groups(network: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """One group of all trained parameters, all with weight decay, as in the released code."""
    trained = [value for value in network.parameters() if value.requires_grad]
    return [{"params": trained, "weight_decay": weight_decay}]


def _iou(found: Tensor, truth: Tensor) -> Tensor:
    """IoU of two bool masks; 0 if both are empty."""
    return (found & truth).sum() / (found | truth).sum().clamp(min=1)
