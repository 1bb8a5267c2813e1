"""Tiny SAMEO networks, and images of shapes behind a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.models.sameo import EfficientSamShape, Sameo, SameoConfig, SamShape
from amodal_diffusion.synthetic.occlusion import (
    OcclusionRule,
    cut_out,
    paste,
    place_occluder,
    scale_cutout,
    shift_mask,
)
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.training.sameo.images import prompt_image
from amodal_diffusion.training.sameo.objective import PromptBatch, SameoObjective, join, mask_iou
from tests.c2f_seg import moving_shape

SHAPE = SamShape(
    image_size=64,
    patch_size=8,
    vision_width=64,
    vision_layers=2,
    vision_heads=4,
    mlp_ratio=2.0,
    window=4,
    global_layers=(1,),
    width=32,
    decoder_mlp=64,
    decoder_heads=4,
    iou_hidden=32,
    mask_input_channels=4,
)
TINY = SameoConfig(sam=SHAPE)
EFFICIENT = SameoConfig(
    backend="efficient_sam",
    efficient_sam=EfficientSamShape(
        image_size=64,
        patch_size=8,
        pretrained_size=32,
        vision_width=48,
        vision_layers=2,
        vision_heads=3,
        width=32,
        decoder_mlp=64,
        decoder_heads=4,
        iou_hidden=32,
    ),
)


def shapes(count: int, *, first: int = 0) -> list[AmodalSample]:
    """Images of 64 x 64 pixels, each with a shape that is partly behind a bar."""
    samples = []
    for seed in range(first, first + count):
        sample, part = moving_shape(seed, frames=4), slice(seed % 4, seed % 4 + 1)
        assert sample.rgb is not None
        samples.append(replace(sample, modal=sample.modal[part], amodal=sample.amodal[part], rgb=sample.rgb[part]))
    return samples


def plain_shape(seed: int, *, size: int = 64) -> AmodalSample:
    """An ellipse, rectangle or triangle that nothing occludes, as a clip of one frame."""
    rng = np.random.default_rng(seed)
    down, right = (np.mgrid[:size, :size] - size * rng.uniform(0.4, 0.6, (2, 1, 1))) / (
        size * rng.uniform(0.16, 0.24, (2, 1, 1))
    )
    inside = (
        down**2 + right**2 < 1,
        (abs(down) < 1) & (abs(right) < 1),
        (abs(down) < 1) & (abs(right) < (1 + down) / 2),
    )
    mask = inside[seed % 3]
    noise = rng.integers(0, 40, (size, size, 3))
    rgb = (np.where(mask[..., None], rng.integers(20, 200, 3), rng.integers(20, 200, 3)) + noise).astype(np.uint8)
    return AmodalSample(f"plain {seed}", mask[None], mask[None], None, rgb[None], None)


def occluded_twin(sample: AmodalSample, occluder: AmodalSample, *, seed: int) -> AmodalSample | None:
    """The sample behind another one's object; None if they do not fit."""
    assert sample.rgb is not None
    assert occluder.rgb is not None
    rule, rng = OcclusionRule(rate=(0.2, 0.6)), Rng(seed)
    area = int(sample.amodal.sum())
    cutout = scale_cutout(cut_out(occluder.rgb[0], occluder.amodal[0]), area, rng.uniform(0.8, 1.2), rule)
    assert cutout is not None
    found = place_occluder(sample.amodal[0], cutout.mask, rule, rng=rng)
    if found is None:
        return None
    front = shift_mask(cutout.mask, found.row, found.column, (sample.amodal.shape[1], sample.amodal.shape[2]))
    rgb = paste(sample.rgb[0], cutout, found)
    return replace(sample, name=f"{sample.name} occluded", modal=sample.amodal & ~front, rgb=rgb[None])


def batch_of(samples: Sequence[AmodalSample], config: SameoConfig = TINY) -> PromptBatch:
    """All images in one batch, at the decoder's mask size."""
    return join([prompt_image(sample, 0, config) for sample in samples])


def fit(model: Sameo, batch: PromptBatch, *, steps: int, rate: float = 3e-3, seed: int = 0) -> SameoObjective:
    """Train on a batch with AdamW, 8 images a step."""
    objective = SameoObjective(model, cache=len(batch.images))
    trained = [value for value in objective.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        chosen = torch.randperm(len(batch.images), generator=generator)[:8]
        part = PromptBatch(
            batch.images[chosen], batch.boxes[chosen], batch.amodal[chosen], tuple(batch.keys[i] for i in chosen)
        )
        optimizer.zero_grad()
        objective(part, generator, step).backward()
        optimizer.step()
    return objective


@torch.no_grad()
def ious(model: Sameo, batch: PromptBatch, box: int) -> tuple[torch.Tensor, torch.Tensor]:
    """True and predicted IoU of the masks that modal (0) or amodal (1) boxes prompt, float ``[B]`` each."""
    logits, found = model(batch.images, batch.boxes[:, box : box + 1])
    return mask_iou(logits[:, 0], batch.amodal), found[:, 0]
