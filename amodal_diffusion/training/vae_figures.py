"""What a trained autoencoder comes to: its scaling factor, and how well it rebuilds validation scenes."""

from __future__ import annotations

import json
import logging

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.models.latents import decode_latents, encode_video
from amodal_diffusion.models.saving import save_network
from amodal_diffusion.training.vae_pictures import KINDS, Kind, load_clips, picture
from amodal_diffusion.training.vae_settings import VaeSettings

logger = logging.getLogger(__name__)


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
