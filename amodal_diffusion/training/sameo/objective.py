"""SAMEO's loss: Dice, focal and IoU error of the masks that boxes prompt."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal_diffusion.models.sameo.network import Sameo
from amodal_diffusion.training.sameo.settings import SameoLossSettings


@dataclass(frozen=True)
class PromptBatch:
    """Images with one object each.

    Attributes:
        images: normalized, in the square, float32 ``[B, 3, S, S]``.
        boxes: boxes of the modal and of the amodal mask in pixels of the square, float32 ``[B, 2, 4]``: left, top,
            right, bottom.
        amodal: amodal masks at the size of the loss, float32 ``[B, L, L]``, 0 or 1.
        keys: name of each image, equal for equal pixels.
    """

    images: Tensor
    boxes: Tensor
    amodal: Tensor
    keys: tuple[str, ...]

    def to(self, device: torch.device | str) -> PromptBatch:
        """Move all tensors to a device."""
        return PromptBatch(self.images.to(device), self.boxes.to(device), self.amodal.to(device), self.keys)


def join(batches: list[PromptBatch]) -> PromptBatch:
    """Concatenate batches."""
    images, boxes, amodal = (torch.cat([getattr(part, name) for part in batches]) for name in _TENSORS)
    return PromptBatch(images, boxes, amodal, tuple(key for part in batches for key in part.keys))


_TENSORS = ("images", "boxes", "amodal")


def draw_boxes(boxes: Tensor, amodal_share: float, *, generator: torch.Generator) -> Tensor:
    """Draw the modal or the amodal box of each image as its prompt.

    Args:
        boxes: modal and amodal boxes, float ``[B, 2, 4]``.
        amodal_share: probability of the amodal one.
        generator: on the CPU.

    Returns:
        float ``[B, 1, 4]``.
    """
    amodal = torch.rand(len(boxes), generator=generator) < amodal_share
    return torch.where(amodal.to(boxes.device)[:, None, None], boxes[:, 1:], boxes[:, :1])


def dice_loss(probability: Tensor, masks: Tensor, *, smoothing: float = 1.0) -> Tensor:
    """``1 - (2 sum(P G) + s) / (sum P + sum G + s)`` of each mask, float ``[B]``.

    Args:
        probability: in [0, 1], float ``[B, L, L]``.
        masks: 0 or 1, float ``[B, L, L]``.
        smoothing: ``s``, which keeps empty masks finite.
    """
    both = (probability * masks).flatten(1).sum(1)
    sizes = probability.flatten(1).sum(1) + masks.flatten(1).sum(1)
    return 1 - (2 * both + smoothing) / (sizes + smoothing).clamp(min=torch.finfo(sizes.dtype).tiny)


def focal_loss(logits: Tensor, masks: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss without alpha, mean over the pixels of each mask, float ``[B]``.

    Args:
        logits: float ``[B, L, L]``.
        masks: 0 or 1, float ``[B, L, L]``.
        gamma: exponent that turns down pixels that are right already.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    wrong = (torch.sigmoid(logits) - masks).abs()
    return (wrong**gamma * entropy).flatten(1).mean(1)


def mask_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """IoU of logits cut at 0 with masks, float ``[B]``, without gradient; 1 if both are empty."""
    found, wanted = (logits.detach() > 0).flatten(1), (masks > 0.5).flatten(1)
    both, either = (found & wanted).sum(1), (found | wanted).sum(1)
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both, dtype=torch.float32))


class SameoObjective(nn.Module):
    """Dice + focal + weighted IoU error; the encoders are frozen unless they require gradients.

    Args:
        model: the network.
        settings: prompts and losses.
        cache: number of images whose embeddings are kept in main memory.
    """

    def __init__(self, model: Sameo, settings: SameoLossSettings | None = None, *, cache: int = 0) -> None:
        super().__init__()
        self.model = model
        self.settings = settings or SameoLossSettings()
        self.cache = cache
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def forward(self, batch: PromptBatch, generator: torch.Generator, step: int) -> Tensor:  # noqa: ARG002 - the loop's
        """Loss of a step.

        Args:
            batch: images, boxes and amodal masks.
            generator: draws which box is the prompt; on the CPU.
            step: unused.
        """
        settings = self.settings
        boxes = draw_boxes(batch.boxes, settings.amodal_box_share, generator=generator)
        logits, found = self.model.decode(self.embeddings(batch), boxes)
        masks = logits[:, 0].float()
        if masks.shape[-2:] != batch.amodal.shape[-2:]:
            masks = F.interpolate(masks[:, None], batch.amodal.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        dice = dice_loss(masks.sigmoid(), batch.amodal, smoothing=settings.dice_smoothing)
        focal = focal_loss(masks, batch.amodal, gamma=settings.focal_gamma)
        error = (found[:, 0].float() - mask_iou(masks, batch.amodal)).abs()
        return (dice + focal + settings.iou_weight * error).mean()

    def embeddings(self, batch: PromptBatch) -> Tensor:
        """Image embeddings, from the cache where they are known; with gradients only if the encoder is trained."""
        encoder = (value for name, value in self.model.network.named_parameters() if "mask_decoder." not in name)
        if any(value.requires_grad for value in encoder):
            return self.model.encode(batch.images)
        with torch.no_grad():
            if not self.cache:
                return self.model.encode(batch.images)
            unknown = [place for place, key in enumerate(batch.keys) if key not in self._kept]
            fresh = dict(zip(unknown, self.model.encode(batch.images[unknown]), strict=True)) if unknown else {}
            rows = [fresh[at] if at in fresh else self._kept[key] for at, key in enumerate(batch.keys)]
            for place, row in fresh.items():
                self._kept[batch.keys[place]] = row.cpu()
            while len(self._kept) > self.cache:
                self._kept.popitem(last=False)
            return torch.stack([row.to(batch.images.device) for row in rows])
