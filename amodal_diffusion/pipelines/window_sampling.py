"""One window of a stream through a network: its settings, its random numbers, its call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.models.checkpoint import Preset, SamplingDefaults, apply_preset
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.models.schedulers import make_scheduler
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.pipelines.network_calls import WindowCall
from amodal_diffusion.pipelines.streams import StreamSettings
from amodal_diffusion.types import InputError

STAGE_KEYS = {"amodal_segmentation": 0, "content_completion": 1}


def choose_sampling(
    pipeline: ConditionedVideoPipeline, chosen: Mapping[str, Any], *, preset: Preset
) -> SamplingDefaults:
    """A preset of the checkpoint with the caller's choices in its place.

    Args:
        pipeline: of the stage.
        chosen: fields of :class:`SamplingDefaults` by name.
        preset: see :func:`~amodal_diffusion.models.checkpoint.apply_preset`.

    Raises:
        InputError: if there is no such preset, a choice cannot be, the VAE does not divide height or width, or the
            checkpoint's scheduler does not fit solver and sigmas.
    """
    sampling = replace(apply_preset(preset, pipeline.sampling, pipeline.presets), **chosen)
    factor = spatial_factor(pipeline.vae)
    for name in ("height", "width"):
        value = getattr(sampling, name)
        if value < factor or value % factor:
            raise InputError(f"{name}: expected a multiple of {factor}, got {value}")
    make_scheduler(
        pipeline.scheduler, solver=sampling.solver, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max
    )
    return sampling


def sample_window(
    pipeline: ConditionedVideoPipeline,
    modal: Tensor,
    guide: Tensor | None,
    settings: StreamSettings,
    *,
    start: int,
    backwards: bool = False,
) -> Tensor:
    """Run one window that begins at frame ``start``; float32 ``[K, F, 3, H, W]`` in [-1, 1], one a sample.

    Where the window runs backwards, each frame keeps its own initial noise. What lies before and after all frames in
    which the object can be hidden is there to know its shape by, and 0.
    """
    sampling = settings.sampling
    factor = spatial_factor(pipeline.vae)
    cells = (4, sampling.height // factor, sampling.width // factor)
    key = STAGE_KEYS[pipeline.stage or "amodal_segmentation"]
    count, frames = settings.samples, range(start, start + modal.shape[1])[:: -1 if backwards else 1]
    noise = [
        torch.randn(cells, generator=_generator(settings.seed, key, frame, *_answer(number)))
        for number in range(count)
        for frame in frames
    ]
    first, last = (place - start for place in settings.wanted(start, start + len(frames)))
    decoded = slice(len(frames) - last, len(frames) - first) if backwards else slice(first, last)
    return settings.ask(
        WindowCall(
            pipeline,
            modal.expand(count, -1, -1, -1, -1),
            None if guide is None else guide.expand(count, -1, -1, -1, -1),
            sampling=sampling,
            generators=[_generator(settings.seed, key, start, 1, *_answer(number)) for number in range(count)],
            latents=torch.stack(noise).unflatten(0, (count, len(frames))),
            decoded=decoded,
        )
    )


def _answer(number: int) -> tuple[int, ...]:
    """What tells the random numbers of an answer from those of the first, which has nothing."""
    return (2, number) if number else ()


def _generator(*keys: int) -> torch.Generator:
    """Randomness that depends on the keys alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(keys).generate_state(1)[0]))
