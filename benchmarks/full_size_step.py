"""True training steps of the full-size UNet on a CPU, within 20 GiB: 25 frames at 128x256, random weights.

The paper's choice of parameters is trained in float32 with AdamW; what is frozen is bfloat16, and so are computations.
Memory is that of the whole process, beside what the memory plan of `--dry-run` counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from _machine import GIB, measure_machine, peak_memory
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from amodal_diffusion.config import parse_settings
from amodal_diffusion.training.batches import seeded_generator
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.loss import one_step_loss, training_loss
from amodal_diffusion.training.memory_plan import MemoryPlan, plan_memory
from amodal_diffusion.training.networks import build_image_encoder, build_unet, make_optimizer, prepare_unet
from amodal_diffusion.training.settings import (
    DataSettings,
    ImageEncoderSettings,
    ModelSettings,
    OptimizerSettings,
    TrainingSettings,
    UNetSettings,
)

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        steps: optimizer steps.
        frames: of the clip.
        height: in pixels.
        width: in pixels.
        gradient_checkpointing: compute activations again in the backward pass.
        learning_rate: of AdamW; the smaller of the paper's two.
        limit: GiB that the process must stay within.
        one_step: train to one deterministic step, as `configs/sailvos_one_step.yaml` does.
        unet: its shape.
    """

    steps: int = 3
    frames: int = 25
    height: int = 128
    width: int = 256
    gradient_checkpointing: bool = False
    learning_rate: float = 3e-6
    limit: float = 20.0
    one_step: bool = False
    unet: UNetSettings = field(default_factory=UNetSettings)


def main(settings: Settings) -> int:
    """Take the steps; 0 if all is as it should be, 1 if memory went over the limit or nothing moved."""
    run = TrainingSettings(
        mixed_precision="bf16",
        cpu=True,
        model=ModelSettings(svd="random weights", gradient_checkpointing=settings.gradient_checkpointing),
        data=DataSettings(
            frames=settings.frames, height=settings.height, width=settings.width, cache=Path("made below")
        ),
        optimizer=OptimizerSettings(learning_rate=settings.learning_rate),
    )
    with torch.device("meta"):  # made in the dtype that each weight has in the end
        unet = build_unet(settings.unet, seed=0).train()
        prepare_unet(unet, run)
    unet.to_empty(device="cpu")
    _fill(unet)
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(parameters, run.optimizer)
    plan = _plan(run, settings.unet)
    print(
        f"{plan.parameters / 1e6:.1f} M parameters, {plan.trained / 1e6:.1f} M trained; the memory plan counts "
        f"{plan.total / GIB:.2f} GiB, {plan.activations / GIB:.2f} of them activations",
        flush=True,
    )

    watched = unet.conv_in.weight
    for step in range(settings.steps):
        before, started = watched.detach().clone(), time.perf_counter()
        generator = seeded_generator("training", 0, step)
        with FlopCounterMode(display=False) as counter:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = _loss(unet, settings, run, generator)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, run.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        moved = float((watched.detach() - before).abs().max())
        print(
            f"step {step + 1}: {time.perf_counter() - started:.1f} s, loss {float(loss.detach()):.4f}, weights moved "
            f"by up to {moved:.2e}, peak memory of the process {peak_memory(CPU) / GIB:.2f} GiB",
            flush=True,
        )
    within = peak_memory(CPU) <= settings.limit * GIB
    operations = counter.get_total_flops()
    floor = measure_machine(CPU, torch.bfloat16).floor(operations, 0)
    print(f"{operations / 1e12:.2f} TFLOP a step, {floor:.1f} s at the best rate of this machine")
    print(f"{'within' if within else 'OVER'} the limit of {settings.limit:g} GiB")
    return 0 if within and moved > 0 else 1


def _loss(unet: torch.nn.Module, settings: Settings, run: TrainingSettings, generator: torch.Generator) -> Tensor:
    clip = _clip(settings)
    if settings.one_step:
        return one_step_loss(unet, clip, sigma=700.0, generators=[generator])
    return training_loss(unet, clip, noise=run.noise, conditioning_dropout=0.1, generators=[generator])


def _plan(run: TrainingSettings, shape: UNetSettings) -> MemoryPlan:
    """The plan of a run from a checkpoint of this shape."""
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("meta"):
            build_unet(shape, seed=0).save_config(f"{folder}/unet")
            AutoencoderKLTemporalDecoder(
                block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4
            ).save_config(f"{folder}/vae")
            encoder = build_image_encoder(ImageEncoderSettings(), tokens=shape.cross_attention_dim)
            encoder.config.save_pretrained(f"{folder}/image_encoder")
        return plan_memory(replace(run, model=replace(run.model, svd=folder)))


@torch.no_grad()
def _fill(unet: torch.nn.Module) -> None:
    """Random weights of a size that keeps activations near 1; normalisations as they begin."""
    torch.manual_seed(0)
    for layer in unet.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if isinstance(layer, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
                parameter.fill_(1.0 if name == "weight" else 0.0)
            elif parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.zero_()


def _clip(settings: Settings) -> LatentBatch:
    generator = torch.Generator().manual_seed(0)
    shape = (1, settings.frames, 4, settings.height // 8, settings.width // 8)
    target, modal, guide = (torch.randn(shape, generator=generator) for _ in range(3))
    tokens = torch.randn(1, settings.frames, settings.unet.cross_attention_dim, generator=generator)
    return LatentBatch(target, modal, guide, tokens, noise_aug_strength=torch.tensor([0.05]))


if __name__ == "__main__":
    sys.exit(main(parse_settings(Settings, sys.argv[1:])))
