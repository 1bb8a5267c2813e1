"""Say what a work will take of the disk, before it starts."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from amodal_diffusion.config import dump_settings, parse_settings
from amodal_diffusion.data.cache import Entry, State, TensorCache
from amodal_diffusion.data.occluders import OccludedTracks
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.training.batches import seeded_generator
from amodal_diffusion.training.dataset import (
    ClipPreprocessing,
    TaskClips,
    join,
    scenes,
    training_clips,
    validation_clips,
)
from amodal_diffusion.training.distributed import main_first, make_accelerator, together
from amodal_diffusion.training.latent_cache import FrameDepth, LatentCache, frame_depth, latent_cache
from amodal_diffusion.training.latents import LatentBatch, encode_batch, join_latents
from amodal_diffusion.training.log import log_to_terminal, refuse
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.settings import DataSettings, TrainingSettings
from amodal_diffusion.training.shards import (
    LatentSettings,
    check_folder,
    disk_use,
    is_intact,
    open_folder,
    shard_path,
    write_shard,
)
from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)


def announce(folder: Path, *, clips: int, clip_bytes: int, there: int) -> None:
    """Log what a folder of encoded clips will take.

    Args:
        folder: need not exist.
        clips: number of clips.
        clip_bytes: bytes of a clip, at most.
        there: bytes that the folder already has.

    Raises:
        InputError: if the disk has less room than could still come.
    """
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    total, free = clips * clip_bytes, shutil.disk_usage(place).free
    logger.info(
        "%s: %d clips of at most %s, %s in all; %s are there, %s are free",
        folder, clips, _amount(clip_bytes), _amount(total), _amount(there), _amount(free),
    )  # fmt: skip
    if total - there > free:
        raise InputError(
            f"out: {folder} may need {_amount(total - there)} more, {_amount(free)} are free; name a folder on another "
            "disk, or encode the first clips only with --count N"
        )


def _amount(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"


_FLOAT32 = 4
_SECONDS_BETWEEN_LINES = 30.0


class AheadOfRun:
    """What of a run's clips can be encoded ahead: those that it trains on, then those that its validation looks at.

    Args:
        settings: of the run, on an annotation file.
        storage: of what is encoded.
        components: the networks, on the device of the work.
        count: the first so many tracks that are trained on; 0 is all.

    Raises:
        InputError: if a file or network cannot be used, or no clip looks the same twice.
    """

    def __init__(
        self, settings: TrainingSettings, storage: TensorCache, components: StageComponents, *, count: int
    ) -> None:
        data = settings.data
        if data.occluders.annotations is not None and settings.sampling.fit == "crop":
            raise InputError(
                "sampling.fit: crops follow what occluders leave visible, so no clip of stage 2 looks the same twice "
                "and nothing can be encoded ahead; train without data.cache"
            )
        self.storage = storage
        self._latents: LatentCache = latent_cache(settings, storage, components)
        self._depth: FrameDepth | None = frame_depth(settings, storage, components.vae.device)
        self._parts = _parts(settings, with_depth=self._depth is not None)
        trained = [(self._parts[0], index) for index in range(min(count or len(self._parts[0]), len(self._parts[0])))]
        self._clips = trained + [(part, index) for part in self._parts[1:] for index in range(len(part))]
        self._clip_bytes = _track_bytes(data, components, with_depth=self._depth is not None)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._clips)

    def announce(self) -> None:
        """Log what it will take of the disk; raises InputError if there is too little."""
        announce(self.storage.folder, clips=len(self), clip_bytes=self._clip_bytes, there=self.storage.disk_use())

    def name(self, place: int) -> str:
        """What messages call a clip."""
        part, index = self._clips[place]
        return part.name(index)

    def entries(self, place: int) -> Iterator[Entry]:
        """All that can be kept of a clip.

        Raises:
            InputError: if the clip cannot be read.
        """
        part, index = self._clips[place]
        if isinstance(part.samples, OccludedTracks):
            whole = part.samples.whole(index)
            if whole is not None:
                yield self._latents.latents_entry(part.preprocess(whole).amodal[0])
            return
        sample, trained = part.samples[index], part is self._parts[0]
        if trained:
            clip = part.preprocess(sample)
            yield self._latents.latents_entry(clip.amodal[0])
            yield self._latents.tokens_entry(clip.modal[0])
        if self._depth is not None:
            for look in part.preprocess.looks(sample) if trained else part.preprocess.whole_looks(sample):
                yield self._depth.entry(look)


@torch.no_grad()
def fill(ahead: AheadOfRun, accelerator: Accelerator, *, skip_bad: bool) -> None:
    """Encode what is not there; each process takes a row of neighbouring clips, which often share frames.

    Args:
        ahead: the clips.
        accelerator: the processes.
        skip_bad: leave out clips that cannot be read, and say so, in place of stopping.

    Raises:
        InputError: in every process, if a clip cannot be read or the disk is full.
    """
    main_first(accelerator, ahead.announce)
    together(lambda: _fill(ahead, accelerator, skip_bad=skip_bad))


def verify(ahead: AheadOfRun, accelerator: Accelerator) -> bool:
    """Check that all is there that can be encoded ahead, and holds what was written; log what is not.

    Args:
        ahead: the clips.
        accelerator: the processes.

    Returns:
        whether nothing is missing or damaged and every clip can be read, the same in every process.
    """
    states = together(lambda: _states(ahead, accelerator))
    found: Counter[State | Literal["unreadable"]] = sum(gather_object([states]), Counter())
    logger.info("intact: %d, missing: %d, damaged: %d", found["intact"], found["missing"], found["damaged"])
    if found["unreadable"]:
        logger.info("clips that cannot be read: %d", found["unreadable"])
    return found.keys() <= {"intact"}


def _fill(ahead: AheadOfRun, accelerator: Accelerator, *, skip_bad: bool) -> None:
    places = _share(ahead, accelerator)
    made, noted = 0, time.monotonic()
    for done, place in enumerate(places, start=1):
        try:
            with accelerator.autocast():
                made += sum(ahead.storage.fill(entry) for entry in ahead.entries(place))
        except InputError as error:
            if not skip_bad:
                raise
            logger.warning("left out: %s", " ".join(str(error).split()))
        if done == len(places) or time.monotonic() - noted > _SECONDS_BETWEEN_LINES:
            logger.info("%d of %d clips of this process, %d files written", done, len(places), made)
            noted = time.monotonic()


def _states(ahead: AheadOfRun, accelerator: Accelerator) -> Counter[State | Literal["unreadable"]]:
    found: Counter[State | Literal["unreadable"]] = Counter()
    for place in _share(ahead, accelerator):
        try:
            states = Counter(ahead.storage.state(entry.key) for entry in ahead.entries(place))
        except InputError as error:
            logger.info("cannot be read: %s", " ".join(str(error).split()))
            found["unreadable"] += 1
            continue
        if states.keys() - {"intact"}:
            logger.info("%s: %d missing, %d damaged", ahead.name(place), states["missing"], states["damaged"])
        found.update(states)
    return found


def _share(ahead: AheadOfRun, accelerator: Accelerator) -> list[int]:
    """A process's clips: neighbours, as tracks of one clip lie together and share its frames."""
    parts = np.array_split(np.arange(len(ahead)), accelerator.num_processes)
    places: list[int] = parts[accelerator.process_index].tolist()
    return places


def _parts(settings: TrainingSettings, *, with_depth: bool) -> list[TaskClips]:
    """The clips that are trained on, then those of the validation if these need depth."""
    parts = [training_clips(settings)]
    if with_depth and settings.validation.every and settings.data.validation_annotations is not None:
        parts.append(validation_clips(settings))
    return parts


def _track_bytes(data: DataSettings, components: StageComponents, *, with_depth: bool) -> int:
    """Bytes of a clip, at most: tracks may share frames and so their depth."""
    factor = spatial_factor(components.vae)
    latents = 4 * (data.height // factor) * (data.width // factor)
    tokens = components.image_encoder.config.projection_dim if data.occluders.annotations is None else 0
    depth = data.height * data.width if with_depth else 0
    return _FLOAT32 * data.frames * (latents + tokens + depth)


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


def output_folder(settings: PrecomputeSettings) -> Path:
    """Where the encoded clips go: ``out``, else ``data.cache`` of an annotation file or ``data.latents`` of scenes.

    Raises:
        InputError: if none of them is given.
    """
    of_tracks = settings.data.annotations is not None
    name, default = ("data.cache", settings.data.cache) if of_tracks else ("data.latents", settings.data.latents)
    out = settings.out or default
    if out is None:
        raise InputError(f"out: expected a folder, as {name} names none; give --out DIR")
    return out


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
    out = output_folder(settings)
    accelerator = make_accelerator(settings.mixed_precision, cpu=settings.cpu)
    components = build_components(settings)
    components.vae.to(accelerator.device)
    components.image_encoder.to(accelerator.device)
    sound = True
    if settings.data.annotations is not None:
        ahead = AheadOfRun(settings, TensorCache(out), components, count=settings.count)
        if settings.verify:
            sound = verify(ahead, accelerator)
        else:
            fill(ahead, accelerator, skip_bad=settings.on_bad_sample == "skip")
    elif settings.verify:
        sound = main_first(accelerator, lambda: verify_scenes(settings, out, components))
    else:
        encode_scenes(settings, out, components, accelerator)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return sound


def encode_scenes(
    settings: PrecomputeSettings, out: Path, components: StageComponents, accelerator: Accelerator
) -> None:
    """Encode the first generated scenes whole; the condition noise of a clip follows from seed and clip number.

    Raises:
        InputError: in every process, if ``out`` was filled with other settings or the disk has too little room.
    """
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
    preprocess = ClipPreprocessing.of(settings)
    clips = TaskClips(scenes(settings.data, preprocess, split="train", length=shards * settings.shard_size), preprocess)

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


def verify_scenes(settings: PrecomputeSettings, out: Path, components: StageComponents) -> bool:
    """Check the files of encoded scenes and log what is missing or damaged; whether nothing is."""
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
