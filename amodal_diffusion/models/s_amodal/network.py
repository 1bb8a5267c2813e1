"""S-AModal's network: the stock `SamModel`, whose image encoder gets adapters through hooks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SamModel

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.s_amodal.adapters import Adapters
from amodal_diffusion.models.s_amodal.config import SAModalConfig
from amodal_diffusion.models.sam import SamShape, build_sam


class SAModal(nn.Module):
    """SAM that answers a point on the visible part with the amodal mask.

    Args:
        config: shape of the networks, and which are trained.
        sam: pretrained; None makes one with random weights. It is changed: it gets the hooks.
        seed: seed of new weights.

    Raises:
        InputError: if ``sam`` has another shape than the configuration says.
    """

    def __init__(self, config: SAModalConfig, *, sam: SamModel | None = None, seed: int = 0) -> None:
        super().__init__()
        if sam is not None and SamShape.of(sam) != config.sam:
            raise InputError(f"sam: expected the shape {config.sam}, got {SamShape.of(sam)}; give the weights that fit")
        self.config = config
        self.sam = build_sam(config.sam, seed=seed) if sam is None else sam
        self.adapters: Adapters | None = None
        self._added: list[Tensor] = []
        if config.adapters != "none":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adapters = Adapters(config.sam, reduction=config.adapter_reduction)
            self._hook_adapters()
        self._choose_trained()

    def forward(self, pixels: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the amodal masks, with gradients (`SamModel.get_image_embeddings` would have none).

        Args:
            pixels: as `SamFrame.apply` gives, float32 ``[B, 3, S, S]``.
            points: x and y in pixels of the square, float32 ``[B, P, N, 2]``: N points of each of P prompts.

        Returns:
            logits, float ``[B, P, s, s]`` of the whole square, s a quarter of S at ViT-B; predicted IoU ``[B, P]``.
        """
        embeddings = self.sam.vision_encoder(pixels).last_hidden_state  # [B, D, S / patch, S / patch]
        self._added = []
        labels = torch.ones(points.shape[:-1], dtype=torch.int64, device=points.device)
        found = self.sam(image_embeddings=embeddings, input_points=points, input_labels=labels, multimask_output=False)
        return found.pred_masks[:, :, 0], found.iou_scores[:, :, 0]

    def trained_state(self) -> dict[str, Tensor]:
        """Weights that training changes or that were drawn at random; not those of a frozen, pretrained SAM."""
        frozen = ["sam.prompt_encoder.", "sam.shared_image_embedding."]
        if not self.config.train_encoder:
            frozen.append("sam.vision_encoder.")
        return {name: value for name, value in self.state_dict().items() if not name.startswith(tuple(frozen))}

    def _hook_adapters(self) -> None:
        encoder = self.sam.vision_encoder
        encoder.patch_embed.register_forward_hook(self._compute)
        for index, layer in enumerate(encoder.layers):
            layer.register_forward_pre_hook(partial(self._add, index))

    def _compute(self, module: nn.Module, inputs: tuple[Any, ...], tokens: Tensor) -> None:  # noqa: ARG002 - torch's
        """Forward hook of the patch embedding, whose input is the image: what to add before each block."""
        assert self.adapters is not None  # there are no hooks otherwise
        self._added = self.adapters(inputs[0], tokens)

    def _add(self, index: int, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:  # noqa: ARG002 - torch's
        """Forward pre-hook of a block: add to its tokens."""
        return (inputs[0] + self._added[index], *inputs[1:])

    def _choose_trained(self) -> None:
        """Gradients for adapters and mask decoder, as the paper; the rest is frozen, as the configuration says."""
        self.sam.requires_grad_(requires_grad=False)
        self.sam.mask_decoder.requires_grad_()
        self.sam.vision_encoder.requires_grad_(requires_grad=self.config.train_encoder)
        if self.adapters is not None:
            self.adapters.requires_grad_(requires_grad=self.config.adapters == "trained")


def count_parameters(network: nn.Module) -> Mapping[str, int]:
    """Number of ``trained`` and of ``frozen`` parameters."""
    counts = {"trained": 0, "frozen": 0}
    for value in network.parameters():
        counts["trained" if value.requires_grad else "frozen"] += value.numel()
    return counts
