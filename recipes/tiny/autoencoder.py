"""The settings of a run of the small video autoencoder."""

from __future__ import annotations

import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from diffusers import AutoencoderKLTemporalDecoder
from einops import rearrange
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.frames.transforms import depth_to_unit, mask_to_unit, to_unit
from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.models.latents import decode_latents, encode_video
from amodal_diffusion.models.saving import save_network
from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VaeSettings:
    """Settings of one run.

    Attributes:
        out: folder of the run; the autoencoder is exported to its ``vae/``.
        base: autoencoder to go on from, with its widths; None starts from random weights.
        block_out_channels: widths, one a level; each level but the last halves the frame.
        layers_per_block: residual blocks a level.
        clips: scenes generated for training, held in memory.
        validation_clips: scenes of the validation split that are measured at the end.
        frames: neighbouring frames of a clip seen together.
        height: pixels of a scene, or of a close-up.
        width: pixels of a scene, or of a close-up.
        zoom: look at close-ups of the object, as `data.zoom` of the stages does; None at whole frames.
        crop: height and width of the training crops; the last tenth of the steps uses whole frames.
        shares: how often each kind of picture is drawn: mask, depth, whole object, visible part, frame.
        batch_size: clips a step and process.
        steps: optimizer steps.
        learning_rate: peak, reached after 2 % of the steps; falls to zero as a cosine.
        kl_weight: weight of the divergence from the unit normal.
        swatch_share: how often a batch's clip is a plain pattern of strong colours instead, see :func:`swatch`.
        colour_weight: weight of the error of each channel's difference from grey.
        permute_channels: swap red, green and blue at random, so that few scenes show many colours.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        save_every: steps between checkpoints, from which the same command goes on.
        seed: of weights, scenes and crops.
    """

    out: Path = Path("runs/tiny_vae")
    base: Path | None = None
    block_out_channels: tuple[int, ...] = (32, 64, 96)
    layers_per_block: int = 1
    clips: int = 2000
    validation_clips: int = 50
    frames: int = 4
    height: int = 64
    width: int = 128
    zoom: float | None = None
    crop: tuple[int, int] = (32, 64)
    shares: tuple[float, float, float, float, float] = (0.25, 0.1, 0.3, 0.25, 0.1)
    batch_size: int = 4
    steps: int = 8000
    learning_rate: float = 1e-3
    kl_weight: float = 1e-6
    colour_weight: float = 0.0
    swatch_share: float = 0.0
    permute_channels: bool = False
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what the code below relies on."""
        factor = 2 ** (len(self.block_out_channels) - 1)
        if any(side % factor for side in (*self.crop, self.height, self.width)):
            raise InputError(f"crop, height, width: expected multiples of {factor}, the autoencoder's factor")
        if self.crop[0] > self.height or self.crop[1] > self.width:
            raise InputError(f"crop: expected at most {self.height}x{self.width}, got {self.crop[0]}x{self.crop[1]}")


def cosine_schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step: up over the first 2 % of the steps, then down to 0 as a cosine."""
    warmup = max(1, steps // 50)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def save_state(accelerator: Accelerator, out: Path, step: int) -> None:
    """Write the state beside the others and rename it; then the others go."""
    final = out / "checkpoints" / f"{step:08d}"
    partial = final.with_name(f"{final.name}.partial")
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        partial.rename(final)
        for other in final.parent.iterdir():
            if other != final:
                shutil.rmtree(other)
    accelerator.wait_for_everyone()


def load_newest_state(accelerator: Accelerator, out: Path) -> int:
    """Load the run's newest state, if there is one; the first step to do."""
    folders = sorted(path for path in (out / "checkpoints").glob("*") if path.name.isdigit())
    if not folders:
        return 0
    accelerator.load_state(str(folders[-1]))
    return int(folders[-1].name)


Kind = Literal["mask", "depth", "whole", "modal", "frame"]
KINDS: tuple[Kind, ...] = ("mask", "depth", "whole", "modal", "frame")


def load_clips(settings: VaeSettings, *, split: Literal["train", "validation"], indices: range) -> list[AmodalSample]:
    """Generate scenes of a split, as whole frames or close-ups.

    Args:
        settings: of the run.
        split: which.
        indices: of the scenes.
    """
    dataset = SceneDataset(
        split,
        length=max(indices.stop, 1),
        frames=settings.frames,
        height=settings.height,
        width=settings.width,
        with_rgb=True,
        seed=settings.seed,
        close_up=None if settings.zoom is None else (settings.height, settings.width, settings.zoom),
    )
    return [dataset[index] for index in indices]


def draw_batch(
    clips: list[AmodalSample], settings: VaeSettings, rng: np.random.Generator, *, whole_frames: bool
) -> Tensor:
    """Draw pictures of random kinds from random clips, cropped and mirrored at random.

    Args:
        clips: to draw from.
        settings: shares, crop and batch size.
        rng: source of randomness.
        whole_frames: leave frames whole, with fewer clips to the same number of pixels.

    Returns:
        float32 ``[B, F, 3, H, W]`` in [-1, 1].
    """
    height, width = (settings.height, settings.width) if whole_frames else settings.crop
    smaller = (settings.height * settings.width) // (settings.crop[0] * settings.crop[1])
    batch = max(1, settings.batch_size // smaller) if whole_frames else settings.batch_size
    videos = []
    for _ in range(batch):
        if settings.swatch_share > 0 and rng.random() < settings.swatch_share:
            videos.append(swatch(rng, settings.frames, height, width))
            continue
        sample = clips[rng.integers(len(clips))]
        shares = np.asarray(settings.shares) / sum(settings.shares)
        video = picture(sample, KINDS[rng.choice(len(KINDS), p=shares)])
        top, left = _crop_corner(sample, rng, height, width)
        video = video[..., top : top + height, left : left + width]
        if settings.permute_channels:
            video = video[:, rng.permutation(3).tolist()]
        videos.append(video.flip(-1) if rng.random() < 0.5 else video)
    return torch.stack(videos)


def swatch(rng: np.random.Generator, frames: int, height: int, width: int) -> Tensor:
    """A pattern of 1, 4 or 16 strong colours that stands still.

    Where most pixels are white or grey, an autoencoder learns grey and stays there: as long as its latents hold no
    colour its decoder gains nothing from using them, and the other way round. Pictures that are all colour end that in
    a few hundred steps.

    Args:
        rng: source of randomness.
        frames: F.
        height: H in pixels.
        width: W in pixels.

    Returns:
        float32 ``[F, 3, H, W]`` in [-1, 1].
    """
    side = int(rng.choice([1, 2, 4]))
    grey = torch.from_numpy(rng.uniform(-1.0, 1.0, (1, 3, side, side)).astype(np.float32))
    colours = grey.sign() * grey.abs().sqrt()
    return nn.functional.interpolate(colours, size=(height, width), mode="nearest").expand(frames, -1, -1, -1)


def picture(sample: AmodalSample, kind: Kind) -> Tensor:
    """One of the kinds of video that the two stages encode or decode.

    Args:
        sample: with depth, RGB and the whole object's RGB.
        kind: which one.

    Returns:
        float32 ``[F, 3, H, W]`` in [-1, 1].
    """
    if sample.rgb is None or sample.whole_rgb is None or sample.depth is None:
        raise InputError(f"{sample.name}: the autoencoder is trained on RGB, whole RGB and depth; one is missing")
    match kind:
        case "mask":
            return mask_to_unit(sample.amodal).expand(-1, 3, -1, -1)
        case "depth":
            return depth_to_unit(sample.depth).expand(-1, 3, -1, -1)
        case "whole":
            return to_unit(sample.whole_rgb)
        case "modal":
            return to_unit(cut_out_on_white(sample.rgb, sample.modal))
        case "frame":
            return to_unit(sample.rgb)


def _crop_corner(sample: AmodalSample, rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
    """A crop around a random pixel of the object: anywhere else it is mostly white."""
    rows, columns = np.nonzero(sample.amodal[rng.integers(len(sample.amodal))])
    if len(rows) == 0:
        rows, columns = np.array([sample.amodal.shape[1] // 2]), np.array([sample.amodal.shape[2] // 2])
    pick = rng.integers(len(rows))
    top = np.clip(rows[pick] - rng.integers(height), 0, sample.amodal.shape[1] - height)
    left = np.clip(columns[pick] - rng.integers(width), 0, sample.amodal.shape[2] - width)
    return int(top), int(left)


@torch.no_grad()
def measure_and_export(
    vae: AutoencoderKLTemporalDecoder, clips: list[AmodalSample], settings: VaeSettings
) -> dict[str, float]:
    """Measure the scaling factor on training clips and the reconstruction on validation scenes, then export.

    The scaling factor is one over the standard deviation of the latents of both stages' targets, masks and whole
    objects, half each.

    Args:
        vae: trained; its ``scaling_factor`` is set.
        clips: training clips.
        settings: of the run; ``vae/`` and ``figures.json`` go to ``settings.out``.

    Returns:
        ``mask_iou``; ``whole_psnr``, ``object_psnr`` (of the object's own pixels) and ``frame_psnr`` in dB;
        ``depth_mae`` (of a range of 2); ``scaling_factor``.
    """
    vae.eval()
    targets = [picture(sample, kind) for sample in clips[:200] for kind in ("mask", "whole")]
    latents = torch.cat([encode_video(vae, video[None]).flatten() for video in targets])
    vae.register_to_config(scaling_factor=round(1.0 / float(latents.std()), 5))
    scenes = load_clips(settings, split="validation", indices=range(settings.validation_clips))
    errors: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    objects: list[float] = []
    overlap, union = 0, 0
    for sample in scenes:
        for kind in KINDS:
            video = picture(sample, kind)[None]
            scaled = encode_video(vae, video) * vae.config.scaling_factor
            decoded = decode_latents(vae, scaled, decode_chunk_size=settings.frames).clamp(-1.0, 1.0)
            errors[kind].append(float((decoded - video).abs().mean() if kind == "depth" else _mse(decoded, video)))
            inside = torch.from_numpy(sample.amodal)[None, :, None].expand_as(video)
            if kind == "whole" and inside.any():
                objects.append(float(_mse(decoded[inside], video[inside])))
            if kind == "mask":
                found, truth = decoded.mean(2) > 0, video.mean(2) > 0
                overlap, union = overlap + int((found & truth).sum()), union + int((found | truth).sum())
    figures = {
        "mask_iou": overlap / union,
        "whole_psnr": _psnr(errors["whole"]),
        "object_psnr": _psnr(objects),
        "frame_psnr": _psnr(errors["frame"]),
        "depth_mae": float(np.mean(errors["depth"])),
        "scaling_factor": float(vae.config.scaling_factor),
    }
    save_network(vae, settings.out / "vae")
    (settings.out / "figures.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    logger.info("validation scenes: %s", figures)
    return figures


def _mse(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().mean()


def _psnr(errors: list[float]) -> float:
    """Peak signal-to-noise ratio in dB of values that span 2."""
    return float(10.0 * np.log10(4.0 / np.mean(errors)))


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
