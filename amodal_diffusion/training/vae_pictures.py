"""What the small video autoencoder is trained and measured on: pictures of both stages, and swatches of colour."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.training.vae_settings import VaeSettings
from amodal_diffusion.types import InputError
from amodal_diffusion.video.frames import depth_to_unit, mask_to_unit, to_unit
from amodal_diffusion.video.masks import cut_out_on_white

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
