"""Encode what of a run's clips can be encoded before it: whole scenes, or parts of tracks (docs/caches.md).

`accelerate launch -m amodal_diffusion.training.precompute --config FILE` does it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from amodal_diffusion.config import dump_settings, parse_settings
from amodal_diffusion.data.cache import TensorCache
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.training.clips import TaskClips, scenes
from amodal_diffusion.training.components import build_components
from amodal_diffusion.training.disk import announce
from amodal_diffusion.training.filling import AheadOfRun, fill, verify
from amodal_diffusion.training.latents import LatentBatch, encode_batch, join_latents
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.processes import main_first, make_accelerator, together
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.shards import (
    LatentSettings,
    check_folder,
    disk_use,
    is_intact,
    open_folder,
    shard_path,
    write_shard,
)
from amodal_diffusion.training.tasks import join, task_of
from amodal_diffusion.training.terminal import log_to_terminal, refuse
from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)

_FLOAT16 = 2


@dataclass(frozen=True)
class PrecomputeSettings(TrainingSettings):
    """A run's settings, and what of it is encoded.

    Attributes:
        out: folder for what is encoded; ``data.latents`` where it is not given, of an annotation file ``data.cache``.
        count: number of clips: of scenes rounded up to whole files, ``data.clips`` where it is 0; of an annotation
            file the first ones, all where it is 0.
        verify: write nothing, check that all is there and undamaged.
        encode_batch_size: scenes encoded at once.
        shard_size: scenes of a file.
    """

    out: Path | None = None
    count: int = 0
    verify: bool = False
    encode_batch_size: int = 8
    shard_size: int = 256


def precompute_main(args: Sequence[str]) -> int:
    """Encode a run's clips as a command line says.

    Args:
        args: the command line without the program's name.

    Returns:
        exit status: 0 if all is done, or there with ``--verify``; 1 if ``--verify`` finds something missing or
        damaged; 2 after one line ``error: ...``.
    """
    log_to_terminal()
    settings = parse_settings(PrecomputeSettings, args, description="Encode a run's clips once, before it.")
    if settings.dry_run:
        sys.stdout.write(dump_settings(settings))
        return 0
    try:
        return 0 if precompute(settings) else 1
    except InputError as error:
        return refuse(error)


def precompute(settings: PrecomputeSettings) -> bool:
    """Encode what of a run's clips can be encoded before it, or check what is there; it goes on where it stopped.

    Args:
        settings: of the run, and what of it is encoded.

    Returns:
        False if a check found something missing or damaged, else True.

    Raises:
        InputError: if no folder is given, it was filled with other settings or networks, the disk has too little room,
            or a clip cannot be read.
    """
    of_tracks = settings.data.annotations is not None
    name, default = ("data.cache", settings.data.cache) if of_tracks else ("data.latents", settings.data.latents)
    out = settings.out or default
    if out is None:
        raise InputError(f"out: expected a folder, as {name} names none; give --out DIR")
    accelerator = make_accelerator(settings.mixed_precision, cpu=settings.cpu)
    components = build_components(settings)
    components.vae.to(accelerator.device)
    components.image_encoder.to(accelerator.device)
    sound = True
    if of_tracks:
        ahead = AheadOfRun(settings, TensorCache(out), components, count=settings.count)
        if settings.verify:
            sound = verify(ahead, accelerator)
        else:
            fill(ahead, accelerator, skip_bad=settings.on_bad_sample == "skip")
    elif settings.verify:
        sound = main_first(accelerator, lambda: _verify_scenes(settings, out, components))
    else:
        _encode_scenes(settings, out, components, accelerator)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return sound


def _encode_scenes(
    settings: PrecomputeSettings, out: Path, components: StageComponents, accelerator: Accelerator
) -> None:
    """Encode the first scenes whole, with their own draw of condition noise from (seed, clip)."""
    shards = _shards(settings)

    def start() -> None:
        announce(
            out,
            clips=shards * settings.shard_size,
            clip_bytes=_clip_bytes(settings, components),
            there=disk_use(out),
        )
        open_folder(out, LatentSettings.of(settings, components), shard_size=settings.shard_size)

    main_first(accelerator, start)
    task = task_of(settings.stage, other_frames=settings.sampling.other_frames)
    clips = TaskClips(scenes(settings.data, task, split="train", length=shards * settings.shard_size), task)

    def encode() -> None:
        for shard in range(accelerator.process_index, shards, accelerator.num_processes):
            if shard_path(out, shard).is_file():
                continue
            started = time.monotonic()
            with accelerator.autocast():
                write_shard(out, shard, _encode_shard(clips, shard, settings, components))
            rate = settings.shard_size / (time.monotonic() - started)
            logger.info("file %d of %d, %.1f clips/s in this process", shard + 1, shards, rate)

    together(encode)


def _encode_shard(
    clips: TaskClips, shard: int, settings: PrecomputeSettings, components: StageComponents
) -> LatentBatch:
    indices = range(shard * settings.shard_size, (shard + 1) * settings.shard_size)
    starts = range(0, len(indices), settings.encode_batch_size)
    return join_latents(
        [_encode(clips, indices[start : start + settings.encode_batch_size], settings, components) for start in starts]
    )


def _encode(clips: TaskClips, indices: range, settings: TrainingSettings, components: StageComponents) -> LatentBatch:
    device = components.vae.device
    return encode_batch(
        join([clips[index] for index in indices]).to(device),
        vae=components.vae,
        image_encoder=components.image_encoder,
        noise=settings.noise,
        generators=[seeded_generator("precompute", settings.seed, index, device=device) for index in indices],
    )


def _verify_scenes(settings: PrecomputeSettings, out: Path, components: StageComponents) -> bool:
    size = check_folder(out, LatentSettings.of(settings, components))
    count = -(-(settings.count or settings.data.clips) // size)
    paths = [shard_path(out, shard) for shard in range(count)]
    missing = [path for path in paths if not path.is_file()]
    damaged = [path for path in paths if path.is_file() and not is_intact(path, clips=size)]
    for path in damaged:
        logger.info("%s: damaged; delete it and encode again", path)
    logger.info("intact: %d, missing: %d, damaged: %d", count - len(missing + damaged), len(missing), len(damaged))
    return not (missing or damaged)


def _shards(settings: PrecomputeSettings) -> int:
    return -(-(settings.count or settings.data.clips) // settings.shard_size)


def _clip_bytes(settings: PrecomputeSettings, components: StageComponents) -> int:
    data, factor = settings.data, spatial_factor(components.vae)
    latents = 3 * 4 * (data.height // factor) * (data.width // factor)  # target, modal and guide
    return _FLOAT16 * (data.frames * (latents + components.image_encoder.config.projection_dim) + 1)


if __name__ == "__main__":
    sys.exit(precompute_main(sys.argv[1:]))
