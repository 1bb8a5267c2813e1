"""Trains the small video autoencoder of the bundled model on pictures of generated scenes."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from diffusers import AutoencoderKLTemporalDecoder
from einops import rearrange
from torch import Tensor, nn

from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.frames.crop import ObjectCrop, crop_centers
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.frames.transforms import depth_to_unit, mask_to_unit, to_uint8, to_unit
from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.models.latents import decode_latents, encode_video
from amodal_diffusion.models.saving import save_network
from amodal_diffusion.types import BoolArray, InputError, UInt8Array
from recipes.tiny.loop import end, train_steps

SCENE_HEIGHT, SCENE_WIDTH = 64, 128
"""Pixels of the scenes that crops are cut from."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AutoencoderSettings:
    """Settings of one run.

    Attributes:
        out: folder of the run; the autoencoder is exported to its ``vae/``.
        base: autoencoder to go on from, with its widths; None starts from random weights.
        block_out_channels: widths, one a level; each level but the last halves the frame.
        layers_per_block: residual blocks a level.
        clips: scenes generated for training, held in memory.
        validation_clips: scenes of the validation split that are measured at the end.
        frames: neighboring frames of a clip seen together.
        height: pixels of a scene, or of a close-up.
        width: pixels of a scene, or of a close-up.
        crop_scale: see the object in a crop of this scale, as `sampling.beyond.crop_scale`; None sees whole frames.
        crop: height and width of the training crops; the last tenth of the steps uses whole frames.
        shares: how often each kind of picture is drawn: mask, depth, whole object, visible part, frame.
        batch_size: clips a step and process.
        steps: optimizer steps.
        learning_rate: peak, reached after 2 % of the steps; falls to zero as a cosine.
        kl_weight: weight of the divergence from the unit normal.
        pattern_share: how often a batch's clip is a plain pattern of strong colors instead, see :func:`color_pattern`.
        color_weight: weight of the error of each channel's difference from gray.
        permute_channels: swap red, green and blue at random, so that few scenes show many colors.
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
    crop_scale: float | None = None
    crop: tuple[int, int] = (32, 64)
    shares: tuple[float, float, float, float, float] = (0.25, 0.1, 0.3, 0.25, 0.1)
    batch_size: int = 4
    steps: int = 8000
    learning_rate: float = 1e-3
    kl_weight: float = 1e-6
    color_weight: float = 0.0
    pattern_share: float = 0.0
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


Kind = Literal["mask", "depth", "whole", "modal", "frame"]
KINDS: tuple[Kind, ...] = ("mask", "depth", "whole", "modal", "frame")


def load_clips(
    settings: AutoencoderSettings, *, split: Literal["train", "validation"], indices: range
) -> list[AmodalSample]:
    """Generate scenes of a split, as whole frames or crops.

    Args:
        settings: of the run.
        split: which.
        indices: of the scenes.
    """
    dataset = SceneDataset(
        split,
        length=max(indices.stop, 1),
        frames=settings.frames,
        height=settings.height if settings.crop_scale is None else SCENE_HEIGHT,
        width=settings.width if settings.crop_scale is None else SCENE_WIDTH,
        with_rgb=True,
        seed=settings.seed,
    )
    samples = (dataset[index] for index in indices)
    if settings.crop_scale is None:
        return list(samples)
    size = (settings.height, settings.width)
    return [crop_sample(sample, size, crop_scale=settings.crop_scale) for sample in samples]


def crop_sample(sample: AmodalSample, size: tuple[int, int], *, crop_scale: float) -> AmodalSample:
    """The object-centric crop of a sample, as the stages see it.

    Args:
        sample: with RGB and depth, at the size of its frames; its object is visible in at least one.
        size: height and width of the crop in pixels.
        crop_scale: see :class:`~amodal_diffusion.config.BeyondPaper`.
    """
    source = (sample.modal.shape[1], sample.modal.shape[2])
    crops = [ObjectCrop.around(center, source, size, crop_scale=crop_scale) for center in crop_centers(sample.modal)]

    def apply(frames: Tensor, pad_value: float | Literal["edge"]) -> Tensor:
        return torch.cat([crop.apply(frames[i : i + 1], pad_value) for i, crop in enumerate(crops)])

    def masks(values: BoolArray) -> BoolArray:
        return np.asarray((apply(mask_to_unit(values), -1.0) >= 0)[:, 0].numpy())

    def colors(values: UInt8Array | None, pad_value: float | Literal["edge"]) -> UInt8Array | None:
        return None if values is None else to_uint8(apply(to_unit(values), pad_value))

    return replace(
        sample,
        modal=masks(sample.modal),
        amodal=masks(sample.amodal),
        depth=None if sample.depth is None else apply(torch.from_numpy(sample.depth)[:, None], "edge")[:, 0].numpy(),
        rgb=colors(sample.rgb, "edge"),
        whole_rgb=colors(sample.whole_rgb, 1.0),
    )


def draw_batch(
    clips: list[AmodalSample], settings: AutoencoderSettings, rng: np.random.Generator, *, whole_frames: bool
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
        if settings.pattern_share > 0 and rng.random() < settings.pattern_share:
            videos.append(color_pattern(rng, settings.frames, height, width))
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


def color_pattern(rng: np.random.Generator, frames: int, height: int, width: int) -> Tensor:
    """A pattern of 1, 4 or 16 strong colors that stands still.

    Where most pixels are white or gray, an autoencoder learns gray and stays there: as long as its latents hold no
    color its decoder gains nothing from using them, and the other way round. Pictures that are all color end that in
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
    gray = torch.from_numpy(rng.uniform(-1.0, 1.0, (1, 3, side, side)).astype(np.float32))
    colors = gray.sign() * gray.abs().sqrt()
    return nn.functional.interpolate(colors, size=(height, width), mode="nearest").expand(frames, -1, -1, -1)


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
    vae: AutoencoderKLTemporalDecoder, clips: list[AmodalSample], settings: AutoencoderSettings
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


def train_autoencoder(settings: AutoencoderSettings) -> dict[str, float]:
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
    share = range(accelerator.process_index, settings.clips, accelerator.num_processes)
    clips = load_clips(settings, split="train", indices=share)

    def draw(step: int, rng: np.random.Generator) -> tuple[Tensor]:
        video = draw_batch(clips, settings, rng, whole_frames=step >= 0.9 * settings.steps)
        return (video.to(accelerator.device),)

    train_steps(accelerator, ReconstructionLoss(vae, settings), settings, draw=draw)
    figures = measure_and_export(vae, clips, settings) if accelerator.is_main_process else {}
    end(accelerator)
    return figures


class ReconstructionLoss(nn.Module):
    """The autoencoder with its loss: one call, so that several processes average their gradients."""

    def __init__(self, vae: AutoencoderKLTemporalDecoder, settings: AutoencoderSettings) -> None:
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
        if self.settings.color_weight > 0:
            color = error - error.mean(dim=1, keepdim=True)
            loss = loss + self.settings.color_weight * (color.abs().mean() + color.square().mean())
        return loss


def build_vae(settings: AutoencoderSettings) -> AutoencoderKLTemporalDecoder:
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
