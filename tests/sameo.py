"""Tiny SAMEO networks, and images of shapes behind a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.models.sameo import EfficientSamShape, Sameo, SameoConfig, SamShape
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
    samples = [moving_shape(seed, frames=4) for seed in range(first, first + count)]
    return [replace(sample, **_frame(sample, seed % 4)) for seed, sample in enumerate(samples)]


def _frame(sample: AmodalSample, frame: int) -> dict[str, object]:
    assert sample.rgb is not None
    part = slice(frame, frame + 1)
    return {"modal": sample.modal[part], "amodal": sample.amodal[part], "rgb": sample.rgb[part]}


def unoccluded(sample: AmodalSample) -> AmodalSample:
    """The same picture with the bar's pixels counted as the object's, that is, a sample of a plainly visible object."""
    assert sample.rgb is not None
    rgb = sample.rgb.copy()
    color = sample.rgb[sample.modal].mean(axis=0).astype(rgb.dtype)
    background = sample.rgb[:, :1, :1].repeat(rgb.shape[1], axis=1).repeat(rgb.shape[2], axis=2)
    bar = (rgb == 40).all(axis=-1)
    rgb[bar] = background[bar]
    rgb[bar & sample.amodal] = color
    return replace(sample, modal=sample.amodal, rgb=rgb)


def batch_of(samples: Sequence[AmodalSample], config: SameoConfig = TINY) -> PromptBatch:
    """All images in one batch, at the decoder's mask size."""
    return join([prompt_image(sample, 0, config) for sample in samples])


def fit(model: Sameo, batch: PromptBatch, *, steps: int, seed: int = 0, rows: int = 8) -> SameoObjective:
    """Train on a batch with AdamW at 3e-3, ``rows`` images a step."""
    objective = SameoObjective(model, cache=len(batch.images))
    trained = [value for value in objective.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        chosen = torch.randperm(len(batch.images), generator=generator)[:rows]
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
