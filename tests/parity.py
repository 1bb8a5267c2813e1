"""Compare this package with the recorded outputs of the reference: `python -m tests.parity` prints the table."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from amodal_diffusion.models.conditioning import clip_tokens
from amodal_diffusion.models.hub import StageComponents, load_stage
from amodal_diffusion.models.latents import encode_video
from amodal_diffusion.models.unet import one_token_per_frame
from amodal_diffusion.pipelines.amodal_segmentation import mask_score
from amodal_diffusion.pipelines.denoising import ConditionedVideoOutput, ConditionedVideoPipeline

LATENTS, FRAMES = 1e-4, 1e-3  # largest differences allowed
RUNS = {"guidance_1.0": (1.0, "depth"), "guidance_1.5": (1.5, "depth"), "guidance_1.5_rgb": (1.5, "rgb")}


@dataclass(frozen=True)
class Row:
    """One compared value.

    Attributes:
        name: what was compared.
        difference: largest absolute difference, or number of pixels for masks.
        tolerance: largest difference allowed.
    """

    name: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the difference is allowed."""
        return self.difference <= self.tolerance


@torch.no_grad()
def rows(shared: Path) -> Iterator[Row]:
    """Run every recorded case.

    Args:
        shared: folder that holds ``golden/``.
    """
    golden = load_file(shared / "golden" / "golden.safetensors")
    folder = shared / "golden" / "official_layout_checkpoint"
    yield from _network_rows(load_stage(folder, stage="amodal_segmentation"), golden)
    pipeline = ConditionedVideoPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler.set_timesteps(6)
    yield _row("scheduler: sigmas", pipeline.scheduler.sigmas, golden["sched.sigmas"], LATENTS)
    yield _row("scheduler: timesteps", pipeline.scheduler.timesteps, golden["sched.timesteps"], LATENTS)
    for name, (scale, guide) in RUNS.items():
        output = pipeline(
            golden["pipe.modal"],
            golden[f"pipe.{guide}"],
            num_inference_steps=6,
            guidance_scale=scale,
            noise_aug_strength=0.0,
            latents=golden["pipe.latents"],
        )
        yield _row(f"{name}: latents", output.latents, golden[f"pipe.{name}.latents"], LATENTS)
        yield _row(f"{name}: frames", _frames(output), golden[f"pipe.{name}.frames"], FRAMES)
    output = pipeline(
        golden["pipe.modal"],
        golden["pipe.depth"],
        num_inference_steps=4,
        guidance_scale=1.5,
        noise_aug_strength=0.02,
        generator=torch.Generator().manual_seed(11),
    )
    yield _row("noise: frames", _frames(output), golden["pipe.noise.frames"], FRAMES)
    masks = mask_score(output.video[0]) > 200 / 255
    yield Row("noise: mask pixels", float((masks != golden["pipe.noise.masks"].bool()).sum()), 0.0)


def shared_folder() -> Path | None:
    """The folder of recorded outputs that ``AMODAL_SHARED`` names, if it is set."""
    value = os.environ.get("AMODAL_SHARED")
    return Path(value) if value else None


def main() -> int:
    """Print the table; 0 if all rows hold, 1 if one does not, 2 without the recorded outputs."""
    shared = shared_folder()
    if shared is None or not (shared / "golden").is_dir():
        print(f"error: AMODAL_SHARED: expected a folder with golden/, got {shared}; set it", file=sys.stderr)
        return 2
    table = list(rows(shared))
    print(f"{'value':34} {'difference':>11} {'allowed':>9}")
    for row in table:
        print(f"{row.name:34} {row.difference:11.1e} {row.tolerance:9.0e} {'ok' if row.holds else 'DIFFERS'}")
    return 0 if all(row.holds for row in table) else 1


def _network_rows(components: StageComponents, golden: dict[str, Tensor]) -> Iterator[Row]:
    unet, sample = components.unet, golden["unet.sample"]
    timestep, ids = golden["unet.timestep"], golden["unet.added_time_ids"]
    output = unet(sample, timestep, golden["unet.context_clip"], added_time_ids=ids).sample
    yield _row("UNet: all tokens for each frame", output, golden["unet.output_clip"], LATENTS)
    tokens = golden["unet.context_per_frame"].reshape(*sample.shape[:2], -1)  # [2, F, D]
    with one_token_per_frame(unet):
        output = unet(sample, timestep, tokens, added_time_ids=ids).sample
    yield _row("UNet: one token a frame", output, golden["unet.output_per_frame"], LATENTS)
    modal = golden["pipe.modal"]
    tokens = clip_tokens(components.image_encoder, modal)[0]
    yield _row("CLIP: tokens", tokens, golden["clip.modal_embeds"], LATENTS)
    yield _row("VAE: latents", encode_video(components.vae, modal)[0], golden["vae.modal_latents_mode"], LATENTS)


def _row(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> Row:
    return Row(name, float((ours - theirs).abs().max()), tolerance)


def _frames(output: ConditionedVideoOutput) -> Tensor:
    return (output.video + 1) / 2


if __name__ == "__main__":
    sys.exit(main())
