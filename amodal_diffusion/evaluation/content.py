"""How well hidden appearance is painted, and the simplest filling to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from amodal_diffusion.evaluation.benchmarks.protocol import MaskTrack
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.metrics import Values, flicker, frechet_distance, psnr, ssim
from amodal_diffusion.types import BoolArray, UInt8Array

if TYPE_CHECKING:
    from amodal_diffusion.models.perceptual import Lpips, VideoFeatures


@dataclass(frozen=True)
class ContentScores:
    """One track's painted object, on white inside its true mask; NaN where there is nothing to score.

    Attributes:
        psnr: over the hidden pixels, dB.
        psnr_object: over the whole object, dB.
        ssim: over the hidden pixels.
        ssim_object: over the whole object.
        flicker: change over time of the hidden pixels' error, grey levels.
        lpips: of the frames; NaN without its weights.
    """

    psnr: float = math.nan
    psnr_object: float = math.nan
    ssim: float = math.nan
    ssim_object: float = math.nan
    flicker: float = math.nan
    lpips: float = math.nan


CONTENT_MEASURES: tuple[str, ...] = tuple(field.name for field in fields(ContentScores))


class ContentScorer:
    """Scores what was painted, one track at a time."""

    def __init__(self, *, lpips: Lpips | None = None, features: VideoFeatures | None = None) -> None:
        """Take the networks that some measures need.

        Args:
            lpips: for LPIPS.
            features: for the Frechet video distance.
        """
        self._lpips, self._features = lpips, features

    def score(self, track: MaskTrack, painted: UInt8Array) -> ContentScores:
        """Score a track that hides something and has its truth.

        Args:
            track: what was to be painted.
            painted: the whole object, uint8 ``[F, H, W, 3]``; counts inside the true mask.
        """
        if track.whole_rgb is None:
            raise RuntimeError(f"{track.identity}: has no whole object to compare with")
        whole, hidden = track.amodal_mask, track.amodal_mask & ~track.clip.modal_mask
        predicted, truth = cut_out_on_white(painted, whole), cut_out_on_white(track.whole_rgb, whole)
        return ContentScores(
            psnr=psnr(predicted, truth, hidden),
            psnr_object=psnr(predicted, truth, whole),
            ssim=ssim(predicted, truth, hidden),
            ssim_object=ssim(predicted, truth, whole),
            flicker=flicker(predicted, truth, hidden),
            lpips=math.nan if self._lpips is None else self._lpips.distance(predicted, truth),
        )

    def features(self, track: MaskTrack, painted: UInt8Array) -> Values | None:
        """What the Frechet video distance compares, float64 ``[D]``; None without its network.

        Args:
            track: whose true mask cuts the object out.
            painted: the whole object, painted or true, uint8 ``[F, H, W, 3]``.
        """
        return None if self._features is None else self._features(cut_out_on_white(painted, track.amodal_mask))


def frechet_video_distance(pairs: Sequence[tuple[Values, Values]]) -> float:
    """Distance of painted clips from the true ones; NaN below two tracks.

    Args:
        pairs: features of what was painted and of the truth, by track, float64 ``[D]`` each.
    """
    if len(pairs) < 2:
        return math.nan
    return frechet_distance(*(np.stack(side) for side in zip(*pairs, strict=True)))


def fill_with_mean_colour(rgb: UInt8Array, modal_mask: BoolArray) -> UInt8Array:
    """Paint every pixel with the mean colour of the object's visible pixels in the clip.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal_mask: visible part, bool ``[F, H, W]``, not empty in every frame.

    Returns:
        uint8 ``[F, H, W, 3]`` of one colour.
    """
    colour = rgb[modal_mask].mean(axis=0)
    return np.broadcast_to(np.rint(colour).astype(np.uint8), rgb.shape)
