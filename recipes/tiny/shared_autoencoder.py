"""Trains the one autoencoder that both stages share, on composites as the stages see them.

Left alone, so small a network finds one axis of color and stays there: as long as the latents hold no color, the
decoder gains nothing from using them, and the other way round. Three things prevent it: weights that carry the mean
color of a cell from the first step (`recipes/tiny/color_start.py`), latents that are held to it for the first steps,
and a loss and pictures that weigh all hues alike.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderTiny
from einops import rearrange
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from amodal_diffusion.basics import STAGES
from amodal_diffusion.config import BeyondPaper, SamplingConfig
from amodal_diffusion.data.composites import CompositeDataset, CompositeOptions
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.models.latents import decode_latents, encode_video
from amodal_diffusion.models.saving import save_network
from amodal_diffusion.training.dataset import ClipPreprocessing
from recipes.tiny.color_start import COLOR_AXES, carry_colors, color_anchor, rotate_hue, swatches
from recipes.tiny.loop import Loop, end, train_steps

logger = logging.getLogger(__name__)
HUE_BINS = 12
_SATURATED = 0.3  # smallest range of red, green and blue, of 1, of a pixel that counts in a hue bin
_KINDS, _SWATCH = 5, 5
_WHOLE_MASK, _WHOLE = 0, 3  # kinds whose latents are the targets of the stages


@dataclass(frozen=True)
class SharedAutoencoderSettings:
    """Settings of one run.

    Attributes:
        cutouts: folder of cut-outs.
        out: folder of the run; the autoencoder is exported to its ``vae/``.
        channels: of all layers.
        encoder_blocks: residual blocks a level, from full resolution down.
        decoder_blocks: residual blocks a level, from the latents up.
        clips: composites a step and process; each frame gives a picture of each of five kinds.
        frames: frames of a composite.
        frame_height: height in pixels of the composites that crops are cut from.
        frame_width: width in pixels of the composites that crops are cut from.
        size: side in pixels of the crops.
        temporal_prior: whether visible masks show what other frames show of the object, as stage 1 sees them.
        made: made-up cut-outs of each role.
        noise: half of the pictures are encoded with noise of ``exp(N(-3, 0.5))``, as the conditions are.
        hold: weight of the distance of three latent channels to the mean colors, at the first step.
        hold_steps: steps over which that weight falls to 3 %.
        validation_clips: composites of held-out categories that are measured at the end.
        steps: optimizer steps.
        learning_rate: peak, reached after 2 % of the steps; falls to zero as a cosine.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        workers: processes that make pictures ahead.
        save_every: steps between checkpoints, from which the same command goes on.
        max_minutes: stop after this time with a checkpoint; 0 for no limit.
        seed: of weights, clips and noise.
    """

    cutouts: Path = Path("runs/cutouts")
    out: Path = Path("runs/tiny/autoencoder")
    channels: int = 40
    encoder_blocks: tuple[int, ...] = (0, 1, 3)
    decoder_blocks: tuple[int, ...] = (4, 2, 0)
    clips: int = 3
    frames: int = 16
    frame_height: int = 128
    frame_width: int = 192
    size: int = 128
    temporal_prior: bool = True
    made: int = 32
    noise: bool = True
    hold: float = 2.0
    hold_steps: int = 600
    validation_clips: int = 24
    steps: int = 1500
    learning_rate: float = 2e-3
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    workers: int = 0
    save_every: int = 100
    max_minutes: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Pictures:
    """Pictures of five kinds in equal parts, then swatches of color.

    Attributes:
        pixels: float ``[N, 3, H, W]`` in [-1, 1].
        inside: where the object is, or a swatch; 0 everywhere for masks and depth; float ``[N, 1, H, W]``.
        kind: whole masks 0, visible masks 1, depth 2, whole objects 3, visible parts 4, swatches 5; int64 ``[N]``.
    """

    pixels: Tensor
    inside: Tensor
    kind: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All three."""
        return self.pixels, self.inside, self.kind


class PictureSteps(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The pictures of each step of a process, made of composites that no other step sees.

    Args:
        settings: of the run.
        process: index of this process.
        processes: of the launch.
    """

    def __init__(self, settings: SharedAutoencoderSettings, process: int = 0, processes: int = 1) -> None:
        self.settings, self.process, self.processes = settings, process, processes
        self.clips = open_clips(settings, "train", settings.steps * processes * settings.clips)
        self.preprocess = preprocessing(settings)

    def __len__(self) -> int:
        return self.settings.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        turn = step * self.processes + self.process
        rng = np.random.default_rng([self.settings.seed, turn])
        first = turn * self.settings.clips
        samples = [self.clips[index] for index in range(first, first + self.settings.clips)]
        return draw_pictures(samples, self.preprocess, rng).tensors()


def open_clips(
    settings: SharedAutoencoderSettings, split: Literal["train", "validation"], length: int
) -> CompositeDataset:
    """Composites of a split at the size that crops are cut from."""
    size = (settings.frames, settings.frame_height, settings.frame_width)
    return CompositeDataset(settings.cutouts, length, *size, split=split, options=CompositeOptions(made=settings.made))


def preprocessing(settings: SharedAutoencoderSettings) -> tuple[ClipPreprocessing, ...]:
    """The preprocessing of both stages, which shows the pictures that they encode and decode."""
    beyond = BeyondPaper(temporal_prior=settings.temporal_prior)
    size = {"height": settings.size, "width": settings.size, "num_frames": settings.frames}
    mask = SamplingConfig(fit="crop", beyond=beyond, **size)
    return ClipPreprocessing(STAGES[0], mask), ClipPreprocessing(STAGES[1], SamplingConfig(fit="crop", **size))


def draw_pictures(
    samples: list[AmodalSample], preprocess: tuple[ClipPreprocessing, ...], rng: np.random.Generator
) -> Pictures:
    """What the stages encode of some clips: hues turned, two fifths of the clips blurred, and swatches beside them.

    Args:
        samples: clips with RGB and depth.
        preprocess: of both stages.
        rng: source of randomness.
    """
    kinds: list[list[Tensor]] = [[] for _ in range(_KINDS)]
    inside: list[list[Tensor]] = [[], []]
    for sample in samples:
        mask, color = (stage(sample) for stage in preprocess)
        side = int(rng.choice([48, 72])) * mask.modal.shape[-1] // 128 if rng.random() < 0.4 else None
        angle = _drawn_angle(rng)
        whole, visible = (rotate_hue(_blurred(video[0], side), angle) for video in (color.amodal, color.modal))
        videos = (_cut(_blurred(mask.amodal[0], side)), mask.modal[0], _blurred(mask.guide[0], side), whole, visible)
        for kind, video in zip(kinds, videos, strict=True):
            kind.append(video.expand(-1, 3, -1, -1))
        inside[0].append((color.guide[0] > 0).float())
        inside[1].append((mask.modal[0] > 0).float())
    pixels = torch.cat([video for kind in kinds for video in kind])
    count = len(pixels) // _KINDS
    swatch, swatch_inside = swatches(max(1, count // 2), pixels.shape[-1], rng)
    none = torch.zeros(3 * count, 1, *pixels.shape[2:])
    return Pictures(
        pixels=torch.cat([pixels, swatch]),
        inside=torch.cat([none, *inside[0], *inside[1], swatch_inside]),
        kind=torch.cat([torch.arange(_KINDS).repeat_interleave(count), torch.full((len(swatch),), _SWATCH)]),
    )


def _drawn_angle(rng: np.random.Generator) -> float:
    """Hue shift in radians: small for half of the clips, any for a third."""
    drawn = rng.random()
    limit = 0.5 if drawn < 0.5 else np.pi if drawn < 0.85 else 0.0
    return float(rng.uniform(-limit, limit))


def _blurred(video: Tensor, side: int | None) -> Tensor:
    """As from a frame with fewer pixels, scaled up; None for no blur."""
    if side is None:
        return video
    small = F.interpolate(video, size=(side, side), mode="area")
    return F.interpolate(small, size=video.shape[-2:], mode="bilinear", align_corners=False)


def _cut(mask: Tensor) -> Tensor:
    return (mask >= 0).float() * 2 - 1


class SharedLoss(nn.Module):
    """The autoencoder with its loss: one call, so that several processes average their gradients.

    Args:
        vae: its weights stay its own.
        noise: encode half of the pictures with the noise of conditions.
    """

    def __init__(self, vae: AutoencoderTiny, *, noise: bool) -> None:
        super().__init__()
        self.vae, self.noise = vae, noise
        self.register_buffer("axes", COLOR_AXES.clone(), persistent=False)

    def forward(self, pixels: Tensor, inside: Tensor, kind: Tensor, hold: Tensor) -> Tensor:
        """Error of pixels, chroma and edges, and terms that give the latents a deviation of about one.

        Means of the latents of two neighboring frames' masks are decoded too, to the mean of the two masks: a network
        that is unsure predicts such means.

        Args:
            pixels: see `Pictures`.
            inside: see `Pictures`.
            kind: see `Pictures`.
            hold: weight of the distance of three channels to the mean colors, scalar.

        Returns:
            scalar.
        """
        noisy = pixels
        if self.noise:
            strength = torch.exp(torch.randn(len(pixels), 1, 1, 1, device=pixels.device) * 0.5 - 3)
            noisy = pixels + strength * (torch.rand_like(strength) < 0.5) * torch.randn_like(pixels)
        latents = self.vae.encode(noisy).latents.float()
        mixed, goal = self._mixed(latents, pixels, int((kind == _WHOLE_MASK).sum()))
        mixed = mixed + 0.08 * torch.randn_like(mixed) * torch.rand(len(mixed), 1, 1, 1, device=mixed.device)
        error = self.vae.decode(mixed).sample.float() - goal
        weight = 1 + 5 * inside
        weight = weight / weight.mean(dim=(1, 2, 3), keepdim=True)
        colored = (kind >= _WHOLE).float()[:, None, None, None]
        chroma = error - error.mean(dim=1, keepdim=True)
        main = weight * (error.abs() + error.square() * (1 + 2 * colored))
        main = main + colored * weight * (chroma.abs() + 2 * chroma.square())
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return main.mean() + 0.5 * edges + hold * self._held(latents, pixels, inside, colored) + _spread(latents, kind)

    def _mixed(self, latents: Tensor, pixels: Tensor, masks: int) -> tuple[Tensor, Tensor]:
        mate = torch.arange(masks, device=latents.device) + torch.randint(-3, 4, (masks,), device=latents.device)
        mate = mate.clamp(0, masks - 1)
        share = torch.rand(masks, 1, 1, 1, device=latents.device)
        share = share * (torch.rand_like(share) < 0.5)
        some = torch.cat([(1 - share) * latents[:masks] + share * latents[mate], latents[masks:]])
        return some, torch.cat([(1 - share) * pixels[:masks] + share * pixels[mate], pixels[masks:]])

    def _held(self, latents: Tensor, pixels: Tensor, inside: Tensor, colored: Tensor) -> Tensor:
        """Squared distance to the anchors; the object counts four times, and pictures without color little."""
        off = (latents[:, :3] - color_anchor(pixels, self.axes)).square()
        cells = F.adaptive_avg_pool2d(inside, off.shape[-2:])
        within = (off * cells).sum(dim=(1, 2, 3)) / (3 * cells.sum(dim=(1, 2, 3))).clamp(min=1)
        return ((off.mean(dim=(1, 2, 3)) + 3 * within) * torch.where(colored.flatten() > 0, 1.0, 0.15)).mean()


def _spread(latents: Tensor, kind: Tensor) -> Tensor:
    """Terms for a deviation of one, most of all of the two targets, for a mean of zero and against large values."""
    logs = torch.stack([latents[kind == k].var().clamp(min=1e-4).log().square() for k in range(_KINDS)])
    spread = logs[[_WHOLE_MASK, _WHOLE]].mean() + 0.2 * logs.mean() + latents.mean(dim=(0, 2, 3)).square().mean()
    return 0.05 * (spread + F.relu(latents.abs() - 3).square().mean())


def build_autoencoder(settings: SharedAutoencoderSettings) -> AutoencoderTiny:
    """The network with weights that carry colors from the first step."""
    levels = len(settings.encoder_blocks)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(settings.channels,) * levels,
        decoder_block_out_channels=(settings.channels,) * levels,
        num_encoder_blocks=settings.encoder_blocks,
        num_decoder_blocks=settings.decoder_blocks,
        scaling_factor=1.0,
    )
    carry_colors(vae)
    return vae


@torch.no_grad()
def measure(vae: AutoencoderTiny, settings: SharedAutoencoderSettings) -> dict[str, float | list[float | None]]:
    """Reconstruction of held-out things without noise, the hues of each clip turned by its number.

    Returns:
        ``mask_iou``; ``object_psnr`` of the objects' own pixels and ``hue_psnr`` of the saturated ones in each of
        twelve hue bins from red on (None for a bin without pixels), dB of the mean squared error; deviation of the
        latents of masks and objects.
    """
    vae.eval()
    clips, preprocess = open_clips(settings, "validation", settings.validation_clips), preprocessing(settings)
    overlap = union = 0
    error, pixels = np.zeros(HUE_BINS + 1), np.zeros(HUE_BINS + 1)  # the last is all pixels of the object
    deviations: tuple[list[float], list[float]] = ([], [])
    for number in range(len(clips)):
        mask, color = (stage(clips[number]) for stage in preprocess)
        whole = rotate_hue(color.amodal[0], 2 * np.pi * number / len(clips))
        shown = []
        for place, video in enumerate((mask.amodal[0].expand(-1, 3, -1, -1), whole)):
            latents = encode_video(vae, video[None])
            deviations[place].append(float(latents.std()))
            shown.append(decode_latents(vae, latents, decode_chunk_size=settings.frames)[0].float().cpu().clamp(-1, 1))
        found, truth = shown[0].mean(dim=1) > 0, mask.amodal[0, :, 0] > 0
        overlap, union = overlap + int((found & truth).sum()), union + int((found | truth).sum())
        inside = color.guide[0, :, 0] > 0
        off = (shown[1] - whole).square().mean(dim=1)[inside].numpy() / 4
        bins = hue_bins(rearrange(whole, "f c h w -> f h w c")[inside].numpy())
        error[-1], pixels[-1] = error[-1] + off.sum(), pixels[-1] + len(off)
        error[:-1] += np.bincount(bins[bins >= 0], weights=off[bins >= 0], minlength=HUE_BINS)
        pixels[:-1] += np.bincount(bins[bins >= 0], minlength=HUE_BINS)
    psnr = [round(float(-10 * np.log10(e / n + 1e-12)), 2) if n else None for e, n in zip(error, pixels, strict=True)]
    return {
        "mask_iou": round(overlap / max(union, 1), 4),
        "object_psnr": psnr[-1] or 0.0,
        "hue_psnr": psnr[:-1],
        "deviation": [round(float(np.mean(values)), 3) for values in deviations],
    }


def hue_bins(colors: np.ndarray) -> np.ndarray:
    """Hue bin of each color ``[N, 3]`` in [-1, 1], 0 to 11 from red on; -1 for colors near gray."""
    high, low = colors.max(axis=1), colors.min(axis=1)
    red, green, blue = colors.T
    span = np.maximum(high - low, 1e-6)
    sextant = np.where(
        high == red,
        (green - blue) / span,
        np.where(high == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    bins = np.floor(sextant * HUE_BINS / 6 + 0.5).astype(np.int64) % HUE_BINS
    return np.where((high - low) / 2 > _SATURATED, bins, -1)


def train_shared_autoencoder(settings: SharedAutoencoderSettings) -> bool:
    """Train from the newest checkpoint on; at the end measure and export to ``out/vae``.

    Args:
        settings: of the run.

    Returns:
        whether the last step was reached, before the time limit.

    Raises:
        InputError: if the cut-outs cannot be used, or the loss becomes infinite or NaN.
    """
    began = time.monotonic()
    accelerator = Accelerator(mixed_precision=settings.mixed_precision, cpu=not torch.cuda.is_available())
    set_seed(settings.seed)
    vae = build_autoencoder(settings)
    steps = PictureSteps(settings, accelerator.process_index, accelerator.num_processes)
    batches: Iterator[tuple[Tensor, ...]] | None = None

    def draw(step: int, _: np.random.Generator) -> tuple[Tensor, ...]:
        nonlocal batches
        if batches is None:
            order, own = range(step, settings.steps), torch.Generator()  # the global generator is the noise's
            loader = DataLoader(steps, batch_size=None, sampler=order, num_workers=settings.workers, generator=own)
            batches = iter(loader)
        hold = settings.hold * max(0.03, 1 - step / settings.hold_steps)
        moved = (value.to(accelerator.device) for value in next(batches))
        return (*moved, torch.tensor(hold, device=accelerator.device))

    ends = None if settings.max_minutes == 0 else began + 60 * settings.max_minutes
    loop = Loop(ends, log=settings.out / "pieces.jsonl")
    finished = train_steps(accelerator, SharedLoss(vae, noise=settings.noise), settings, draw=draw, loop=loop)
    if finished and accelerator.is_main_process:
        figures = measure(vae, settings)
        save_network(vae, settings.out / "vae")
        written = {**figures, "settings": {name: str(value) for name, value in asdict(settings).items()}}
        (settings.out / "figures.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        logger.info("held-out things: %s", figures)
    end(accelerator)
    return finished
