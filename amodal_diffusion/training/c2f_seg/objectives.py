"""The losses of C2F-Seg's two training parts, each as a module that holds what is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from amodal_diffusion.models.c2f_seg.autoencoder import MaskAutoencoder
from amodal_diffusion.models.c2f_seg.config import C2FSampling
from amodal_diffusion.models.c2f_seg.decoding import mask_ratio, random_masking
from amodal_diffusion.models.c2f_seg.network import C2FSeg, refinement_loss, token_loss
from amodal_diffusion.models.perceptual import Lpips
from amodal_diffusion.training.c2f_seg.settings import AutoencoderLossSettings, SegmentationLossSettings

_MOST_ADAPTIVE = 1e4


@dataclass(frozen=True)
class CropBatch:
    """Crops of clips.

    Attributes:
        images: RGB, float32 ``[B, F, 3, S, S]`` in [0, 1].
        modal: clean modal masks, float32 ``[B, F, 1, S, S]``, 0 or 1.
        seen: modal masks that the networks see, which may be augmented, shape and range as ``modal``.
        amodal: amodal masks, shape and range as ``modal``.
    """

    images: Tensor
    modal: Tensor
    seen: Tensor
    amodal: Tensor

    def to(self, device: torch.device | str) -> CropBatch:
        """Move all tensors to a device."""
        return CropBatch(*(part.to(device) for part in (self.images, self.modal, self.seen, self.amodal)))


def join(batches: list[CropBatch]) -> CropBatch:
    """Concatenate crops of clips of the same number of frames."""
    parts = ("images", "modal", "seen", "amodal")
    return CropBatch(*(torch.cat([getattr(batch, part) for batch in batches]) for part in parts))


class Discriminator(nn.Sequential):
    """Judges patches of masks, float ``[N, 1, S, S]``, as real (positive) or reconstructed (negative)."""

    def __init__(self, filters: int = 64, layers: int = 2) -> None:
        modules: list[nn.Module] = [nn.Conv2d(1, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        entering = filters
        for layer in range(1, layers + 1):
            leaving = filters * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            conv = nn.Conv2d(entering, leaving, 4, stride=stride, padding=1, bias=False)
            modules += [conv, nn.BatchNorm2d(leaving), nn.LeakyReLU(0.2)]
            entering = leaving
        super().__init__(*modules, nn.Conv2d(entering, 1, 4, padding=1))


class AutoencoderObjective(nn.Module):
    """Reconstruction and codebook losses of the mask autoencoder, and the adversarial loss as released.

    The discriminator's loss is part of the sum, with gradients kept apart: one optimizer step trains both, each
    against the other's state before the step.

    Args:
        autoencoder: is trained.
        settings: which losses.
        lpips: perceptual distance, for ``l1_lpips_gan``.
    """

    def __init__(
        self, autoencoder: MaskAutoencoder, settings: AutoencoderLossSettings, lpips: Lpips | None = None
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_()
        self.settings = settings
        self.lpips = lpips
        if lpips is not None:
            self.discriminator = Discriminator()

    def forward(self, batch: CropBatch, generator: torch.Generator, step: int) -> Tensor:
        """Loss of a step.

        Args:
            batch: of which only the amodal masks are used.
            generator: draws the new codebook in step ``reseed_step``.
            step: number of earlier optimizer steps.
        """
        masks = batch.amodal.flatten(0, 1)
        if step and step == self.settings.reseed_step:
            self.autoencoder.reseed(masks, generator=generator)
        found = self.autoencoder(masks)
        if self.settings.reconstruction == "mse":
            return F.mse_loss(found.masks, masks) + found.codebook_loss
        distance = (found.masks - masks).abs().mean()
        if self.lpips is None:
            return distance + found.codebook_loss
        pair = (found.masks.expand(-1, 3, -1, -1), masks.expand(-1, 3, -1, -1))
        distance = distance + self.lpips(*pair).mean()
        return distance + self._adversarial(found.masks, masks, distance) + found.codebook_loss

    def _adversarial(self, found: Tensor, masks: Tensor, distance: Tensor) -> Tensor:
        """Loss that makes reconstructions look real, and the hinge loss of the discriminator that tells them apart."""
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        buffers = {name: value.clone() for name, value in self.discriminator.named_buffers()}
        fooled = -functional_call(self.discriminator, {**frozen, **buffers}, (found,)).mean()
        if self.training:
            last = self.autoencoder.vq.decoder.conv_out.weight
            (wanted,) = torch.autograd.grad(distance, last, retain_graph=True)
            (pushed,) = torch.autograd.grad(fooled, last, retain_graph=True)
            adaptive = (wanted.norm() / (pushed.norm() + 1e-4)).clamp(max=_MOST_ADAPTIVE).detach()
            fooled = adaptive * fooled
        real, made = self.discriminator(masks), self.discriminator(found.detach())
        hinge = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())
        return self.settings.gan_weight * fooled + hinge


class SegmentationObjective(nn.Module):
    """Cross-entropy of the tokens and binary cross-entropies of the refined masks, each with weight 1.

    Args:
        model: transformer, refinement and image features are trained; the autoencoder is frozen.
        settings: choices where paper and released code differ.
        sampling: decodes the coarse mask, with ``coarse: decoded``.
    """

    def __init__(self, model: C2FSeg, settings: SegmentationLossSettings, sampling: C2FSampling | None = None) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.decoded = (sampling or C2FSampling()) if settings.coarse == "decoded" else None

    def forward(self, batch: CropBatch, generator: torch.Generator, step: int) -> Tensor:  # noqa: ARG002 - as the other
        """Loss of a step.

        Args:
            batch: crops.
            generator: draws which tokens are masked, and the tokens of the coarse mask; on the CPU.
            step: unused.
        """
        autoencoder = self.model.autoencoder
        modal, amodal = batch.modal.flatten(0, 1), batch.amodal.flatten(0, 1)
        modal_ids, amodal_ids = autoencoder.encode(batch.seen.flatten(0, 1)), autoencoder.encode(amodal)
        ratio = mask_ratio(self.settings.mask_schedule, generator=generator)
        count, length = amodal_ids.shape
        masked = random_masking(count, length, ratio, generator=generator).to(amodal_ids.device)
        output = self.model(batch.images, modal_ids, amodal_ids, masked, decoded=self.decoded, generator=generator)
        tokens = token_loss(
            output.logits,
            amodal_ids,
            masked=masked if self.settings.loss_on == "masked" else None,
            label_smoothing=self.settings.label_smoothing,
        )
        return tokens + refinement_loss(output, modal, amodal)
