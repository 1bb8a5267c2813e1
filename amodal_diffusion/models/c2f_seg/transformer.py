"""Mask-and-predict transformer of C2F-Seg, for images and, with windows over time, for video."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from amodal_diffusion.models.c2f_seg.config import TransformerConfig


class Attention(nn.Module):
    """Multi-head self-attention, without a causal mask."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: float ``[N, L, D]``.
            visible: whether a query (row) sees a key (column), bool ``[N, L, L]``; None if all see all.
        """
        query, key, value = rearrange(self.qkv(x), "n l (three h d) -> three n h l d", three=3, h=self.heads)
        mask = None if visible is None else visible[:, None]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return F.dropout(self.projection(rearrange(mixed, "n h l d -> n l (h d)")), self.dropout, self.training)


class Block(nn.Module):
    """Pre-norm block: attention within each frame, in a video model attention within windows over time, then the MLP.

    Args:
        config: shape of the transformer.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.spatial_norm = nn.LayerNorm(width)
        self.spatial = Attention(width, config.heads, config.dropout)
        if config.window is not None:
            self.temporal_norm = nn.LayerNorm(width)
            self.temporal = Attention(width, config.heads, config.dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_ratio * width),
            nn.GELU(),
            nn.Linear(config.mlp_ratio * width, width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor, shift: int) -> Tensor:
        """Process tokens.

        Args:
            x: float ``[B, F, L, D]``; in a video model, F is a multiple of the window.
            shift: frames by which ``x`` has been rolled over time.
        """
        clips = len(x)
        x = rearrange(x, "b f l d -> (b f) l d")
        x = x + self.spatial(self.spatial_norm(x))
        x = rearrange(x, "(b f) l d -> b f l d", b=clips)
        if self.config.window is not None:
            x = x + self._temporal(self.temporal_norm(x), self.config.window, shift)
        return x + self.mlp(self.mlp_norm(x))

    def _temporal(self, x: Tensor, window: tuple[int, int, int], shift: int) -> Tensor:
        """Attention within windows of ``window`` frames, rows and columns."""
        clips, frames, length, _ = x.shape
        side = round(length**0.5)
        sizes = {"wf": window[0], "wh": window[1], "ww": window[2]}
        split = "b (f wf) (h wh w ww) d"
        inside = "(b f h w) (wf wh ww) d"
        windows = rearrange(x, f"{split} -> {inside}", h=side // window[1], w=side // window[2], **sizes)
        visible = None
        if self.config.mask_wrap and shift:
            wrapped = torch.arange(frames, device=x.device).roll(shift) >= frames - shift  # from the end to the front
            per_frame = rearrange(wrapped, "(f wf) -> f wf", wf=window[0]).repeat_interleave(window[1] * window[2], 1)
            per_window = per_frame.repeat_interleave(length // (window[1] * window[2]), 0).repeat(clips, 1)
            visible = per_window[:, :, None] == per_window[:, None, :]
        mixed = self.temporal(windows, visible)
        return rearrange(mixed, f"{inside} -> {split}", b=clips, h=side // window[1], w=side // window[2], **sizes)


class MaskPredictor(nn.Module):
    """Predicts the tokens of the amodal mask from those of the modal mask, known amodal tokens, and image features.

    The three are concatenated along channels, as in the released code: ``L`` tokens, not ``3 L``.

    Args:
        config: shape of the transformer.
        num_codes: size ``V`` of the codebook; ``V`` itself is the mask token.
        grid: tokens along a side of the crop, so ``L`` is its square.
        image_channels: channels of the image features.
    """

    def __init__(self, config: TransformerConfig, *, num_codes: int, grid: int, image_channels: int) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.num_codes = num_codes
        self.image = nn.Conv2d(image_channels, width // 2, 3, padding=1)
        self.modal = nn.Embedding(num_codes + 1, width // 4)
        self.amodal = nn.Embedding(num_codes + 1, width // 4)
        self.position = nn.Parameter(torch.zeros(grid * grid, width))
        if config.window is not None and config.temporal_position:
            self.time = nn.Parameter(torch.zeros(config.window[0], width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.logits = nn.Linear(width, num_codes + 1)  # its bias is the free vector of the published model
        self.apply(_initialize)

    def forward(self, amodal_ids: Tensor, modal_ids: Tensor, features: Tensor, *, frames: int) -> Tensor:
        """Predict all tokens.

        Args:
            amodal_ids: known tokens, int64 ``[B*F, L]``; ``V`` where a token is masked.
            modal_ids: tokens of the modal mask, int64 ``[B*F, L]``.
            features: image features on the grid of tokens, float ``[B*F, C, grid, grid]``.
            frames: F; of a video model a multiple of its window.

        Returns:
            logits, float ``[B*F, L, V + 1]``.
        """
        image = rearrange(self.image(features), "n d h w -> n (h w) d")
        x = torch.cat([image, self.modal(modal_ids), self.amodal(amodal_ids)], dim=-1) + self.position
        x = rearrange(self.dropout(x), "(b f) l d -> b f l d", f=frames)
        if self.config.window is None:
            for block in self.blocks:
                x = block(x, 0)
        else:
            x = self._through_time(x, self.config.window[0])
        result: Tensor = self.logits(self.head(rearrange(x, "b f l d -> (b f) l d")))
        return result

    def _through_time(self, x: Tensor, window: int) -> Tensor:
        """The blocks of a video model; each is followed by a cyclic roll over half a window, undone at the end."""
        frames, total = x.shape[1], 0
        if self.config.temporal_position:
            places = torch.arange(frames, device=x.device) % window
            x = x + self.time[places][:, None]
        for block in self.blocks:
            x = block(x, total % frames)
            x = x.roll(window // 2, dims=1)
            total += window // 2
        return x.roll(-total, dims=1)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
