"""Train the small video autoencoder that a from-scratch model works in."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from diffusers import AutoencoderKLTemporalDecoder
from einops import rearrange
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.training.vae_figures import measure_and_export
from amodal_diffusion.training.vae_pictures import draw_batch, load_clips
from amodal_diffusion.training.vae_runs import cosine_schedule, load_newest_state, save_state
from amodal_diffusion.training.vae_settings import VaeSettings
from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)


def train_vae(settings: VaeSettings) -> dict[str, float]:
    """Train, measure and export the autoencoder; goes on from the run's newest checkpoint if there is one.

    Loss: see :class:`ReconstructionLoss`.

    Args:
        settings: of the run.

    Returns:
        the figures measured on validation scenes, as written to ``figures.json``.
    """
    # Without a GPU, processes find each other (gloo) only if the CPU is asked for by name.
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        cpu=not torch.cuda.is_available(),
        # With one layer a block the decoder's attention exists but is not used.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    logger.info("process %d of %d", accelerator.process_index + 1, accelerator.num_processes)
    set_seed(settings.seed)
    vae = build_vae(settings)
    objective: nn.Module = ReconstructionLoss(vae, settings)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = LambdaLR(optimizer, lambda step: cosine_schedule(step, settings.steps))
    objective, optimizer = accelerator.prepare(objective, optimizer)
    accelerator.register_for_checkpointing(schedule)
    first = load_newest_state(accelerator, settings.out)
    clips = load_clips(
        settings,
        split="train",
        indices=range(accelerator.process_index, settings.clips, accelerator.num_processes),
    )
    started = time.monotonic()
    for step in range(first, settings.steps):
        rng = np.random.default_rng([settings.seed, accelerator.process_index, step])
        video = draw_batch(clips, settings, rng, whole_frames=step >= 0.9 * settings.steps).to(accelerator.device)
        loss = objective(video)
        if not torch.isfinite(loss):
            raise InputError(f"step {step + 1}: the loss is {loss.item()}; go on with --mixed-precision no")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if (step + 1) % 100 == 0 and accelerator.is_main_process:
            speed = (step + 1 - first) / (time.monotonic() - started)
            logger.info("step %d of %d, loss %.4f, %.2f steps/s", step + 1, settings.steps, loss.item(), speed)
        if (step + 1) % settings.save_every == 0:
            save_state(accelerator, settings.out, step + 1)
    accelerator.wait_for_everyone()
    figures: dict[str, float] = {}
    if accelerator.is_main_process:
        figures = measure_and_export(vae, clips, settings)
    accelerator.wait_for_everyone()
    del objective  # before the group of processes ends, see run.train
    accelerator.free_memory()
    accelerator.end_training()
    return figures


class ReconstructionLoss(nn.Module):
    """The autoencoder with its loss: one call, so that several processes average their gradients."""

    def __init__(self, vae: AutoencoderKLTemporalDecoder, settings: VaeSettings) -> None:
        """Wrap the network; its weights stay its own."""
        super().__init__()
        self.vae = vae
        self.settings = settings

    def forward(self, video: Tensor) -> Tensor:
        """Mean absolute plus squared error of all pixels, plus the weighted terms of the settings.

        Args:
            video: float ``[B, F, 3, H, W]`` in [-1, 1].

        Returns:
            scalar.
        """
        frames = rearrange(video, "b f c h w -> (b f) c h w")
        posterior = self.vae.encode(frames).latent_dist
        decoded = self.vae.decode(posterior.sample(), num_frames=video.shape[1]).sample.float()
        error = decoded - frames
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1.0 - posterior.logvar).float().mean()
        loss = error.abs().mean() + error.square().mean() + self.settings.kl_weight * divergence
        if self.settings.colour_weight > 0:
            colour = error - error.mean(dim=1, keepdim=True)
            loss = loss + self.settings.colour_weight * (colour.abs().mean() + colour.square().mean())
        return loss


def build_vae(settings: VaeSettings) -> AutoencoderKLTemporalDecoder:
    """The base to go on from, or the stock autoencoder at the settings' widths with fresh weights."""
    if settings.base is not None:
        return load_vae(settings.base).requires_grad_(requires_grad=True).train()
    return AutoencoderKLTemporalDecoder(
        block_out_channels=settings.block_out_channels,
        down_block_types=("DownEncoderBlock2D",) * len(settings.block_out_channels),
        layers_per_block=settings.layers_per_block,
        latent_channels=4,
        sample_size=settings.height,
        scaling_factor=1.0,
        force_upcast=False,
    )
