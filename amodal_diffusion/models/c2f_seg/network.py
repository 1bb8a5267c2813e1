"""C2F-Seg in the order of the paper: tokens, image features, mask-and-predict, coarse mask, refinement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg.autoencoder import MaskAutoencoder
from amodal_diffusion.models.c2f_seg.backbone import build_backbone, image_features
from amodal_diffusion.models.c2f_seg.config import C2FSampling, C2FSegConfig
from amodal_diffusion.models.c2f_seg.decoding import decode_in_rounds, sample_once
from amodal_diffusion.models.c2f_seg.refinement import Refinement
from amodal_diffusion.models.c2f_seg.transformer import MaskPredictor
from amodal_diffusion.models.weights import check_keys, read_state_dict


@dataclass(frozen=True)
class Prediction:
    """What the networks predict for crops.

    Attributes:
        coarse: decoded tokens, float ``[B, F, S, S]`` in [0, 1].
        refined: probability of the amodal mask, float ``[B, F, S, S]``.
        visible: probability of the visible mask, float ``[B, F, S, S]``.
    """

    coarse: Tensor
    refined: Tensor
    visible: Tensor

    def probability(self, *, merge_coarse: bool) -> Tensor:
        """Probability of the amodal mask, float ``[B, F, S, S]``; merged as `C2FSampling` says."""
        return (self.refined + self.coarse).clamp(max=1) if merge_coarse else self.refined


@dataclass(frozen=True)
class TrainingOutput:
    """What the losses need.

    Attributes:
        logits: of all tokens, float ``[B*F, L, V + 1]``.
        visible: logits of the visible mask, float ``[B*F, 1, S, S]``.
        amodal: logits of the amodal mask, float ``[B*F, 1, S, S]``.
    """

    logits: Tensor
    visible: Tensor
    amodal: Tensor


class C2FSeg(nn.Module):
    """All networks of C2F-Seg; the autoencoder is frozen.

    Args:
        config: their shape.
        seed: seed of the random weights.
    """

    def __init__(self, config: C2FSegConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        channels = config.backbone.hidden_sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.autoencoder = MaskAutoencoder(config.autoencoder)
            self.backbone = build_backbone(config.backbone, stride=config.autoencoder.stride)
            self.transformer = MaskPredictor(
                config.transformer,
                num_codes=config.autoencoder.num_codes,
                grid=config.grid,
                image_channels=channels[-1],
            )
            self.refinement = Refinement(config.refinement, channels)
        self.autoencoder.requires_grad_(requires_grad=False)

    @property
    def mask_token(self) -> int:
        """The token that stands for an unknown one, ``V``."""
        return self.config.autoencoder.num_codes

    @torch.no_grad()
    def predict(
        self, images: Tensor, modal: Tensor, sampling: C2FSampling, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Predict the amodal masks of crops.

        A clip whose length is not a multiple of the attention window is padded with its last frame, then cut.

        Args:
            images: RGB, float32 ``[B, F, 3, S, S]`` in [0, 1].
            modal: float32 ``[B, F, 1, S, S]``, 0 or 1.
            sampling: number of rounds and their randomness.
            generator: draws the tokens; None for torch's own.

        Raises:
            InputError: if a crop has another size than the network's.
        """
        clips, frames = images.shape[:2]
        size = self.config.size
        if tuple(images.shape[2:]) != (3, size, size) or tuple(modal.shape) != (clips, frames, 1, size, size):
            raise InputError(
                f"crops: expected images [B, F, 3, {size}, {size}] and modal [B, F, 1, {size}, {size}], got "
                f"{list(images.shape)} and {list(modal.shape)}"
            )
        images, modal = (pad_frames(part, self.config.window_frames) for part in (images, modal))
        padded = images.shape[1]
        features = image_features(self.backbone, images.flatten(0, 1), grid=self.config.grid)
        modal_ids = self.autoencoder.encode(modal.flatten(0, 1))

        def logits(ids: Tensor) -> Tensor:
            result: Tensor = self.transformer(ids, modal_ids, features[-1], frames=padded)
            return result[..., :-1]  # the mask token is never an answer

        masked = torch.full_like(modal_ids, self.mask_token)
        ids = decode_in_rounds(logits, masked, sampling, generator=generator)
        coarse = self.autoencoder.decode(ids)
        visible, amodal = self.refinement(features, coarse)
        parts = (coarse, amodal.float().sigmoid(), visible.float().sigmoid())
        return Prediction(*(rearrange(part, "(b f) 1 h w -> b f h w", f=padded)[:, :frames] for part in parts))

    def forward(
        self,
        images: Tensor,
        modal_ids: Tensor,
        amodal_ids: Tensor,
        masked: Tensor,
        *,
        decoded: C2FSampling | None,
        generator: torch.Generator,
    ) -> TrainingOutput:
        """One training pass.

        Refinement gets the coarse mask of tokens that are drawn at once from the logits, where unmasked tokens are
        known (as released), or of tokens decoded as in inference.

        Args:
            images: RGB, float32 ``[B, F, 3, S, S]`` in [0, 1].
            modal_ids: tokens of the modal mask, int64 ``[B*F, L]``.
            amodal_ids: tokens of the amodal mask, int64 ``[B*F, L]``.
            masked: which of them are masked, bool ``[B*F, L]``.
            decoded: decode the coarse mask of the refinement like this; None draws the tokens at once.
            generator: draws the tokens of the coarse mask.
        """
        frames = images.shape[1]
        features = image_features(self.backbone, images.flatten(0, 1), grid=self.config.grid)
        known = amodal_ids.masked_fill(masked, self.mask_token)
        logits = self.transformer(known, modal_ids, features[-1], frames=frames)
        if decoded is None:
            # Logits that are not finite make the loss NaN, which the training loop handles; they must not end here.
            ids = sample_once(logits[..., :-1].detach().nan_to_num(), 5, generator=generator)
        else:
            ids = self._decoded(features[-1].detach(), modal_ids, frames, decoded, generator)
        coarse = self.autoencoder.decode(ids)
        visible, amodal = self.refinement(features, coarse)
        return TrainingOutput(logits, visible, amodal)

    @torch.no_grad()
    def _decoded(
        self, deep: Tensor, modal_ids: Tensor, frames: int, sampling: C2FSampling, generator: torch.Generator
    ) -> Tensor:
        def logits(ids: Tensor) -> Tensor:
            result: Tensor = self.transformer(ids, modal_ids, deep, frames=frames)
            return result[..., :-1].nan_to_num()

        masked = torch.full_like(modal_ids, self.mask_token)
        return decode_in_rounds(logits, masked, sampling, generator=generator)

    def load_backbone(self, folder: Path) -> None:
        """Load the ResNet from a folder of transformers' layout; a classifier's head is left out.

        Args:
            folder: such as a download of ``microsoft/resnet-50``.

        Raises:
            InputError: if the weights are of another shape.
        """
        prefix = "resnet."
        state = {name.removeprefix(prefix): value for name, value in read_state_dict(folder, "model").items()}
        own = self.backbone.state_dict()
        kept = {name: value for name, value in state.items() if not name.startswith("classifier.")}
        wrong = [name for name in own.keys() & kept.keys() if own[name].shape != kept[name].shape]
        check_keys(missing=own.keys() - kept.keys(), unexpected=kept.keys() - own.keys(), wrong=wrong, source=folder)
        self.backbone.load_state_dict(kept)


def pad_frames(clips: Tensor, multiple: int) -> Tensor:
    """Repeat the last frame of clips ``[B, F, ...]`` until F is a multiple of a number."""
    missing = -clips.shape[1] % multiple
    return torch.cat([clips, clips[:, -1:].expand(-1, missing, *clips.shape[2:])], dim=1) if missing else clips


def token_loss(logits: Tensor, ids: Tensor, *, masked: Tensor | None = None, label_smoothing: float = 0.1) -> Tensor:
    """Cross-entropy of the tokens over ``V + 1`` classes (equation 6 of the paper).

    Args:
        logits: float ``[N, L, V + 1]``.
        ids: tokens of the amodal mask, int64 ``[N, L]``.
        masked: count only these, bool ``[N, L]``; None counts all positions, as released.
        label_smoothing: share of the target that is spread over all classes.
    """
    if masked is not None:
        logits, ids = logits[masked], ids[masked]
    else:
        logits, ids = logits.flatten(0, 1), ids.flatten()
    return F.cross_entropy(logits.float(), ids, label_smoothing=label_smoothing)


def refinement_loss(output: TrainingOutput, modal: Tensor, amodal: Tensor) -> Tensor:
    """Sum of the mean binary cross-entropies of the visible and of the amodal mask.

    Args:
        output: logits of both.
        modal: float ``[B*F, 1, S, S]``, 0 or 1.
        amodal: float ``[B*F, 1, S, S]``, 0 or 1.
    """
    visible = F.binary_cross_entropy_with_logits(output.visible.float(), modal)
    return visible + F.binary_cross_entropy_with_logits(output.amodal.float(), amodal)
