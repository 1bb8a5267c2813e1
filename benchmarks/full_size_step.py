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

from amodal_diffusion.parsing import parse_settings
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.loss import one_step_loss, training_loss
from amodal_diffusion.training.memory_plan import MemoryPlan, plan_memory
from amodal_diffusion.training.networks import build_image_encoder, build_unet, make_optimizer, prepare_unet
from amodal_diffusion.training.order import seeded_generator
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


class Step:
    """Optimizer steps on one batch of random latents: the paper's choice of parameters, bfloat16 autocast, AdamW.

    Attributes:
        run: settings of the training.
        unet: the network.
        loss: of the last step.
    """

    def __init__(self, settings: Settings, device: torch.device, *, clips: int = 1) -> None:
        """Make the network on a device.

        Args:
            settings: what is measured.
            device: where it is trained.
            clips: of a step.
        """
        self.run = TrainingSettings(
            mixed_precision="bf16",
            cpu=device.type == "cpu",
            batch_size=clips,
            model=ModelSettings(svd="random weights", gradient_checkpointing=settings.gradient_checkpointing),
            data=DataSettings(
                frames=settings.frames, height=settings.height, width=settings.width, cache=Path("made below")
            ),
            optimizer=OptimizerSettings(learning_rate=settings.learning_rate),
        )
        with torch.device("meta"):  # made in the dtype that each weight has in the end
            self.unet = build_unet(settings.unet, seed=0).train()
            prepare_unet(self.unet, self.run)
        self.unet.to_empty(device=device)
        _fill(self.unet)
        self._parameters = [parameter for parameter in self.unet.parameters() if parameter.requires_grad]
        self._optimizer = make_optimizer(self._parameters, self.run.optimizer)
        self._batch = _clips(settings, clips).to(device)
        self._device, self.loss, self._one_step = device, torch.zeros(()), settings.one_step

    def __call__(self, step: int) -> None:
        """Take a step; its number seeds the noise."""
        clips = len(self._batch.target)
        generators = [
            seeded_generator("training", 0, step * clips + clip, device=self._device) for clip in range(clips)
        ]
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            loss = self._loss(generators)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self.run.optimizer.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.loss = loss.detach()

    def _loss(self, generators: list[torch.Generator]) -> Tensor:
        if self._one_step:
            return one_step_loss(self.unet, self._batch, sigma=700.0, generators=generators)
        return training_loss(
            self.unet, self._batch, noise=self.run.noise, conditioning_dropout=0.1, generators=generators
        )


def main(settings: Settings) -> int:
    """Take the steps; 0 if all is as it should be, 1 if memory went over the limit or nothing moved."""
    step = Step(settings, CPU)
    plan = _plan(step.run, settings.unet)
    print(
        f"{plan.parameters / 1e6:.1f} M parameters, {plan.trained / 1e6:.1f} M trained; the memory plan counts "
        f"{plan.total / GIB:.2f} GiB, {plan.activations / GIB:.2f} of them activations",
        flush=True,
    )

    watched = step.unet.conv_in.weight
    for number in range(settings.steps):
        before, started = watched.detach().clone(), time.perf_counter()
        with FlopCounterMode(display=False) as counter:
            step(number)
        moved = float((watched.detach() - before).abs().max())
        print(
            f"step {number + 1}: {time.perf_counter() - started:.1f} s, loss {float(step.loss):.4f}, weights moved "
            f"by up to {moved:.2e}, peak memory of the process {peak_memory(CPU) / GIB:.2f} GiB",
            flush=True,
        )
    within = peak_memory(CPU) <= settings.limit * GIB
    operations = counter.get_total_flops()
    floor = measure_machine(CPU, torch.bfloat16).floor(operations, 0)
    print(f"{operations / 1e12:.2f} TFLOP a step, {floor:.1f} s at the best rate of this machine")
    print(f"{'within' if within else 'OVER'} the limit of {settings.limit:g} GiB")
    return 0 if within and moved > 0 else 1


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


def _clips(settings: Settings, clips: int) -> LatentBatch:
    generator = torch.Generator().manual_seed(0)
    shape = (clips, settings.frames, 4, settings.height // 8, settings.width // 8)
    target, modal, guide = (torch.randn(shape, generator=generator) for _ in range(3))
    tokens = torch.randn(clips, settings.frames, settings.unet.cross_attention_dim, generator=generator)
    return LatentBatch(target, modal, guide, tokens, noise_aug_strength=torch.full((clips,), 0.05))


if __name__ == "__main__":
    sys.exit(main(parse_settings(Settings, sys.argv[1:])))
