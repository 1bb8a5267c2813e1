"""EfficientSAM: a plain ViT, box prompts as points, and SAM's two-way decoder with GELU and group normalization.

Parameters have the names of the published files, so that converted weights load strictly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal_diffusion.models.sameo.config import EfficientSamShape

_MASKS = 4  # one for a prompt that leaves no doubt, three for one that does


class EfficientSam(nn.Module):
    """Image encoder, prompt encoder and mask decoder.

    Args:
        shape: sizes of the three.
    """

    def __init__(self, shape: EfficientSamShape) -> None:
        super().__init__()
        self.shape = shape
        self.image_encoder = _ImageEncoder(shape)
        self.prompt_encoder = _PromptEncoder(shape)
        self.mask_decoder = _MaskDecoder(shape)

    def encode(self, images: Tensor) -> Tensor:
        """Image embeddings, float ``[B, C, h, w]``, of normalized images ``[B, 3, S, S]``."""
        found: Tensor = self.image_encoder(images)
        return found

    def decode(self, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Predict one mask for each box.

        Args:
            embeddings: from :meth:`encode`.
            boxes: float ``[B, Q, 4]``: left, top, right, bottom in pixels of the square.

        Returns:
            logits ``[B, Q, 4h, 4w]``, and predicted IoU ``[B, Q]``, which no activation bounds.
        """
        images, queries = boxes.shape[:2]
        prompts = self.prompt_encoder(boxes.reshape(-1, 2, 2))  # [B*Q, points, C]
        tiled = embeddings.repeat_interleave(queries, dim=0)
        masks, ious = self.mask_decoder(tiled, self.prompt_encoder.grid(embeddings.shape[-2:]), prompts)
        return masks[:, 0].unflatten(0, (images, queries)), ious[:, 0].unflatten(0, (images, queries))


class _ChannelNorm(nn.LayerNorm):
    """Layer normalization of the channels of each pixel of ``[B, C, H, W]``."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2)
        found = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])  # [B, heads, N, C / heads]
        return self.proj(found.transpose(1, 2).flatten(2))


class _VisionBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = _SelfAttention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(tokens))))


class _ImageEncoder(nn.Module):
    def __init__(self, shape: EfficientSamShape) -> None:
        super().__init__()
        wide, width, patch = shape.vision_width, shape.width, shape.patch_size
        self.side = shape.pretrained_size // patch
        # The table has one more row, for a class token that the network no longer has.
        self.pos_embed = nn.Parameter(torch.randn(1, self.side**2 + 1, wide) * 0.02)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, wide, patch, stride=patch)})
        self.blocks = nn.ModuleList(_VisionBlock(wide, shape.vision_heads) for _ in range(shape.vision_layers))
        self.neck = nn.Sequential(
            nn.Conv2d(wide, width, 1, bias=False),
            _ChannelNorm(width, eps=1e-6),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            _ChannelNorm(width, eps=1e-6),
        )

    def forward(self, images: Tensor) -> Tensor:
        found = self.patch_embed["proj"](images)  # [B, C, h, w]
        table = self.pos_embed[:, 1:].transpose(1, 2).unflatten(-1, (self.side, self.side))
        if found.shape[-2:] != table.shape[-2:]:
            table = F.interpolate(table, found.shape[-2:], mode="bicubic", align_corners=False)
        tokens = (found + table).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.neck(tokens.transpose(1, 2).unflatten(-1, found.shape[-2:]))


class _FourierCode(nn.Module):
    """Random Fourier features of positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, width // 2))

    def forward(self, positions: Tensor) -> Tensor:
        """Code, ``[..., C]``, of positions x, y in [0, 1], ``[..., 2]``."""
        matrix: Tensor = self.positional_encoding_gaussian_matrix  # type: ignore[assignment]  # a buffer
        angles = 2 * math.pi * ((2 * positions - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class _PromptEncoder(nn.Module):
    def __init__(self, shape: EfficientSamShape) -> None:
        super().__init__()
        self.size, self.points = shape.image_size, shape.points
        self.pe_layer = _FourierCode(shape.width)
        self.invalid_points = nn.Embedding(1, shape.width)
        self.point_embeddings = nn.Embedding(1, shape.width)  # of points inside an object: unused with boxes
        self.bbox_top_left_embeddings = nn.Embedding(1, shape.width)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, shape.width)

    def forward(self, corners: Tensor) -> Tensor:
        """Prompt tokens, ``[N, points, C]``, of two corners in pixels, ``[N, 2, 2]``; padding lies at (-1, -1)."""
        corners = F.pad(corners, (0, 0, 0, self.points - 2), value=-1.0)
        types = torch.cat(
            [self.bbox_top_left_embeddings.weight, self.bbox_bottom_right_embeddings.weight]
            + [self.invalid_points.weight] * (self.points - 2)
        )
        # Padding keeps its position's code, unlike in SAM, which replaces it.
        found: Tensor = self.pe_layer((corners + 0.5) / self.size) + types
        return found

    def grid(self, size: Sequence[int]) -> Tensor:
        """Code of the centers of all tokens, ``[1, C, h, w]``."""
        device = self.invalid_points.weight.device
        rows, columns = ((torch.arange(side, device=device) + 0.5) / side for side in size)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        found: Tensor = self.pe_layer(torch.stack([x, y], dim=-1))
        return found.movedim(-1, 0)[None]


class _Perceptron(nn.Module):
    """Linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int, leaving: int, *, layers: int) -> None:
        super().__init__()
        entering = [width] + [hidden] * (layers - 1)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(size, hidden), nn.GELU()) for size in entering)
        self.fc = nn.Linear(hidden, leaving)

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.layers:
            values = layer(values)
        found: Tensor = self.fc(values)
        return found


class _CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int, *, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        projected = ((self.q_proj, queries), (self.k_proj, keys), (self.v_proj, values))
        q, k, v = (layer(part).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer, part in projected)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _TwoWayBlock(nn.Module):
    def __init__(self, shape: EfficientSamShape, *, first: bool) -> None:
        super().__init__()
        width, heads = shape.width, shape.decoder_heads
        self.first = first
        self.self_attn = _CrossAttention(width, heads, inner=width)
        self.cross_attn_token_to_image = _CrossAttention(width, heads, inner=width // 2)
        self.cross_attn_image_to_token = _CrossAttention(width, heads, inner=width // 2)
        self.mlp = _Perceptron(width, shape.decoder_mlp, width, layers=1)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width) for _ in range(4))

    def forward(self, tokens: Tensor, image: Tensor, token_code: Tensor, image_code: Tensor) -> tuple[Tensor, Tensor]:
        if not self.first:  # the first block's tokens are their own code
            tokens = tokens + token_code
        tokens = self.norm1(tokens + self.self_attn(tokens, tokens, tokens))
        found = self.cross_attn_token_to_image(tokens + token_code, image + image_code, image)
        tokens = self.norm2(tokens + found)
        tokens = self.norm3(tokens + self.mlp(tokens))
        found = self.cross_attn_image_to_token(image + image_code, tokens + token_code, tokens)
        return tokens, self.norm4(image + found)


class _TwoWayTransformer(nn.Module):
    def __init__(self, shape: EfficientSamShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TwoWayBlock(shape, first=index == 0) for index in range(shape.decoder_layers))
        self.final_attn_token_to_image = _CrossAttention(shape.width, shape.decoder_heads, inner=shape.width // 2)
        self.norm_final_attn = nn.LayerNorm(shape.width)

    def forward(self, tokens: Tensor, image: Tensor, image_code: Tensor) -> tuple[Tensor, Tensor]:
        token_code = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_code, image_code)
        found = self.final_attn_token_to_image(tokens + token_code, image + image_code, image)
        return self.norm_final_attn(tokens + found), image


class _MaskDecoder(nn.Module):
    def __init__(self, shape: EfficientSamShape) -> None:
        super().__init__()
        width = shape.width
        self.transformer = _TwoWayTransformer(shape)
        self.iou_token, self.mask_tokens = nn.Embedding(1, width), nn.Embedding(_MASKS, width)
        first = nn.ConvTranspose2d(width, width // 4, 2, stride=2)
        second = nn.ConvTranspose2d(width // 4, width // 8, 2, stride=2)
        self.final_output_upscaling_layers = nn.ModuleList(
            [nn.Sequential(first, nn.GroupNorm(1, width // 4), nn.GELU()), nn.Sequential(second, nn.GELU())]
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            _Perceptron(width, width, width // 8, layers=2) for _ in range(_MASKS)
        )
        self.iou_prediction_head = _Perceptron(width, shape.iou_hidden, _MASKS, layers=2)

    def forward(self, embeddings: Tensor, code: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of all masks, ``[N, 4, 4h, 4w]``, and their predicted IoU, ``[N, 4]``."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(len(prompts), -1, -1)
        image = embeddings.flatten(2).transpose(1, 2)
        image_code = code.flatten(2).transpose(1, 2)
        tokens, image = self.transformer(torch.cat([own, prompts], dim=1), image, image_code)
        pixels = image.transpose(1, 2).unflatten(-1, embeddings.shape[-2:])
        for layer in self.final_output_upscaling_layers:
            pixels = layer(pixels)  # [N, C / 8, 4h, 4w]
        weights = [mlp(tokens[:, 1 + index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = torch.einsum("nmc,nchw->nmhw", torch.stack(weights, dim=1), pixels)
        return masks, self.iou_prediction_head(tokens[:, 0])
