"""Encode a run's clips once, so that its steps need neither the autoencoder nor the image encoder."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.training.clips import TaskClips, scenes
from amodal_diffusion.training.components import build_components
from amodal_diffusion.training.latents import LatentBatch, encode_batch, join_latents
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.processes import make_accelerator
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.shards import LatentSettings, open_folder, shard_path, write_shard
from amodal_diffusion.training.tasks import join, task_of
from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrecomputeSettings(TrainingSettings):
    """A run's settings, and what of it is encoded.

    Attributes:
        out: folder for the latents; ``data.latents`` where it is not given.
        count: number of clips, rounded up to whole files; ``data.clips`` where it is 0.
        encode_batch_size: clips encoded at once.
        shard_size: clips of a file.
    """

    out: Path | None = None
    count: int = 0
    encode_batch_size: int = 8
    shard_size: int = 256


def precompute(settings: PrecomputeSettings) -> Path:
    """Encode a run's first clips; files that are there already are left as they are.

    Each clip gets its own draw of condition noise from (seed, clip). Processes take turns by files.

    Args:
        settings: of the run, and what of it is encoded.

    Returns:
        folder of the latents.

    Raises:
        InputError: if no folder is given, or it was filled with other settings or networks.
    """
    if settings.data.annotations is not None:
        raise InputError("data.annotations: only generated scenes are encoded before a run so far; leave it out")
    out = settings.out or settings.data.latents
    if out is None:
        raise InputError("out: expected a folder, as data.latents names none; give --out DIR")
    accelerator = make_accelerator(settings.mixed_precision, cpu=settings.cpu)
    components = build_components(settings)
    components.vae.to(accelerator.device)
    components.image_encoder.to(accelerator.device)
    with accelerator.main_process_first():
        open_folder(out, LatentSettings.of(settings, components), shard_size=settings.shard_size)
    shards = -(-(settings.count or settings.data.clips) // settings.shard_size)
    task = task_of(settings.stage)
    clips = TaskClips(scenes(settings.data, task, split="train", length=shards * settings.shard_size), task)
    for shard in range(accelerator.process_index, shards, accelerator.num_processes):
        if shard_path(out, shard).is_file():
            continue
        started = time.monotonic()
        indices = range(shard * settings.shard_size, (shard + 1) * settings.shard_size)
        starts = range(0, len(indices), settings.encode_batch_size)
        with accelerator.autocast():
            parts = [
                _encode(clips, indices[start : start + settings.encode_batch_size], settings, components)
                for start in starts
            ]
        write_shard(out, shard, join_latents(parts))
        rate = settings.shard_size / (time.monotonic() - started)
        logger.info("file %d of %d, %.1f clips/s in this process", shard + 1, shards, rate)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return out


def _encode(clips: TaskClips, indices: range, settings: TrainingSettings, components: StageComponents) -> LatentBatch:
    device = components.vae.device
    return encode_batch(
        join([clips[index] for index in indices]).to(device),
        vae=components.vae,
        image_encoder=components.image_encoder,
        noise=settings.noise,
        generators=[seeded_generator("precompute", settings.seed, index, device=device) for index in indices],
    )
