"""Encoding of a run's clips before training: depth, latents and tokens of tracks, or complete generated scenes."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.cache import Entry, State, TensorCache
from amodal_diffusion.data.occluders import OccludedTracks
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.parsing import dump_settings, parse_settings
from amodal_diffusion.training.clip_sources import training_clips, validation_clips
from amodal_diffusion.training.dataset import TaskClips
from amodal_diffusion.training.distillation import Teacher
from amodal_diffusion.training.distributed import main_first, make_accelerator, together
from amodal_diffusion.training.encoded_scenes import EncodedScenes
from amodal_diffusion.training.latent_cache import frame_depth, latent_cache
from amodal_diffusion.training.log import log_to_terminal, refuse
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

_FLOAT32 = 4
_SECONDS_BETWEEN_LINES = 30.0
Found = Counter[State | Literal["unreadable"]]


@dataclass(frozen=True)
class PrecomputeSettings(TrainingSettings):
    """Settings of a training run, and of the encoding of its clips.

    Attributes:
        out: folder for the encoded clips; by default ``data.cache``.
        count: number of training clips to encode, from the first; 0 for all.
        verify: write nothing; check that all files are present and undamaged.
    """

    out: Path | None = None
    count: int = 0
    verify: bool = False


def precompute_main(args: Sequence[str]) -> int:
    """Encode a run's clips with the settings of a command line.

    Args:
        args: the command line without the program's name.

    Returns:
        exit status: 0 on success; 1 if ``--verify`` finds missing or damaged files; 2 after one line ``error: ...``.
    """
    log_to_terminal()
    try:
        settings = parse_settings(PrecomputeSettings, args, description="Encode a run's clips once, before it.")
        if settings.dry_run:
            sys.stdout.write(dump_settings(settings))
            return 0
        return 0 if precompute(settings) else 1
    except (InputError, OSError) as error:
        return refuse(error)


def precompute(settings: PrecomputeSettings) -> bool:
    """Encode clips before training, or verify the encoded clips; a second call resumes an interrupted one.

    Returns:
        False if the verification found missing or damaged files, else True.

    Raises:
        InputError: in every process, if no folder is given, a file or network cannot be used, a clip cannot be read,
            or the disk has too little space.
    """
    storage = open_output(settings)
    accelerator = make_accelerator(settings.mixed_precision, cpu=settings.cpu)
    components = build_components(settings)
    components.vae.to(accelerator.device)
    components.image_encoder.to(accelerator.device)
    of_tracks = bool(settings.data.sources)
    ahead = Tracks(settings, storage, components) if of_tracks else Scenes(settings, storage, components)
    sound = True
    if settings.verify:
        sound = verify(ahead, storage, accelerator)
    else:
        fill(ahead, storage, accelerator, skip_bad=settings.on_bad_sample == "skip")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return sound


def open_output(settings: PrecomputeSettings) -> TensorCache:
    """Open the folder for the encoded clips: ``out``, else ``data.cache``.

    Raises:
        InputError: if neither is given, or the run's clips cannot be encoded before it.
    """
    if settings.data.composites.folder is not None:
        raise InputError(
            "data.composites.folder: composites are made while the run trains, so none can be encoded before; train "
            "without precompute.py"
        )
    out = settings.out or settings.data.cache
    if out is None:
        raise InputError("out: expected a folder, as data.cache names none; give --out DIR")
    return TensorCache(out)


def announce(folder: Path, *, clips: int, clip_bytes: int) -> None:
    """Log the disk space that the encoded clips will need.

    Args:
        folder: cache folder, which need not exist; its files count toward the clips.
        clips: number of clips.
        clip_bytes: upper bound of the size of an encoded clip in bytes.

    Raises:
        InputError: if the remaining clips may need more than the free disk space.
    """
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    total, there, free = clips * clip_bytes, TensorCache(folder).disk_use(), shutil.disk_usage(place).free
    logger.info(
        "%s: %d clips of at most %s, %s in all; %s are there, %s are free",
        folder, clips, _amount(clip_bytes), _amount(total), _amount(there), _amount(free),
    )  # fmt: skip
    if total - there > free:
        raise InputError(
            f"out: {folder} may need {_amount(total - there)} more, {_amount(free)} are free; name a folder on another "
            "disk, or encode the first clips only with --count N"
        )


class Ahead(Protocol):
    """Clips that can be encoded, at least in part, before training."""

    clip_bytes: int

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def name(self, place: int) -> str:
        """Name of a clip, for messages."""
        ...

    def entries(self, place: int) -> Iterator[Entry]:
        """All cache entries of a clip; raises InputError if the clip cannot be read."""
        ...


class Scenes:
    """Generated scenes, which are encoded completely.

    Args:
        settings: resolved settings.
        storage: cache for the encoded scenes.
        components: VAE and image encoder on the device that encodes.
    """

    def __init__(self, settings: PrecomputeSettings, storage: TensorCache, components: StageComponents) -> None:
        teacher = _teacher(settings, storage, components)
        self._scenes, self._components = EncodedScenes(settings, storage, components, teacher), components
        self._length = min(settings.count or len(self._scenes), len(self._scenes))
        self.clip_bytes = self._scenes.clip_bytes(components.image_encoder.config.projection_dim)

    def __len__(self) -> int:
        """Number of scenes."""
        return self._length

    def name(self, place: int) -> str:
        """Name of a scene, for messages."""
        return self._scenes.name(place)

    def entries(self, place: int) -> Iterator[Entry]:
        """The encoded scene, and the teacher's sample of it, if it has one."""
        yield self._scenes.entry(place, self._components)
        sample = self._scenes.teacher_entry(place)
        if sample is not None:
            yield sample


class Tracks:
    """Tracks of annotation files: the training tracks, then the validation tracks.

    Args:
        settings: resolved settings.
        storage: cache for the encoded tracks.
        components: VAE and image encoder on the device that encodes.

    Raises:
        InputError: if a file or network cannot be used, or if occluders and ``fit: crop`` make every clip unique.
    """

    def __init__(self, settings: PrecomputeSettings, storage: TensorCache, components: StageComponents) -> None:
        if settings.data.occluders.annotations is not None and settings.sampling.fit == "crop":
            raise InputError(
                "sampling.fit: crops depend on the random occluders of stage 2, so no clip can be encoded before "
                "training; train without data.cache"
            )
        self._latents = latent_cache(settings, storage, components)
        self._teacher = _teacher(settings, storage, components)
        self._depth = frame_depth(settings, storage, components.vae.device)
        # The teacher sees the guide as the student does; latents and tokens need no depth.
        self._parts = [training_clips(settings, depth=None if self._teacher is None else self._depth)]
        validated = settings.validation.every and settings.data.validation_source is not None
        if validated and self._depth is not None:  # validation clips need only their depth
            self._parts.append(validation_clips(settings))
        trained = min(settings.count or len(self._parts[0]), len(self._parts[0]))
        self._clips = [(self._parts[0], index) for index in range(trained)]
        self._clips += [(part, index) for part in self._parts[1:] for index in range(len(part))]
        self.clip_bytes = _track_bytes(settings, components, with_depth=self._depth is not None)

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self._clips)

    def name(self, place: int) -> str:
        """Name of a track, for messages."""
        part, index = self._clips[place]
        return part.name(index)

    def entries(self, place: int) -> Iterator[Entry]:
        """All cache entries of a track.

        Raises:
            InputError: if the track cannot be read.
        """
        part, index = self._clips[place]
        samples, place = part.located(index)
        if isinstance(samples, OccludedTracks):
            yield from self._occluded(part, samples, place)
            return
        sample, trained = part.samples[index], part is self._parts[0]
        if self._depth is not None:  # first, so that the clip below finds it stored
            for view in part.preprocess.frame_views(sample) if trained else part.preprocess.whole_frame_views(sample):
                yield self._depth.entry(view)
        if trained:
            clip = part.preprocess(sample)
            yield self._latents.latents_entry(clip.amodal[0])
            yield self._latents.tokens_entry(clip.modal[0])
            taught = None if self._teacher is None else self._teacher.entry_of_track(clip)
            if taught is not None:
                yield taught

    def _occluded(self, part: TaskClips, samples: OccludedTracks, index: int) -> Iterator[Entry]:
        """Entry of the amodal target only, because random occluders change the modal video each time."""
        whole = samples.whole(index)
        if whole is not None:
            yield self._latents.latents_entry(part.preprocess(whole).amodal[0])


def _teacher(settings: TrainingSettings, storage: TensorCache, components: StageComponents) -> Teacher | None:
    teacher = Teacher.of(settings, storage)
    return None if teacher is None else teacher.to(components.vae.device)


def _track_bytes(settings: TrainingSettings, components: StageComponents, *, with_depth: bool) -> int:
    """Upper bound of the size of an encoded track in bytes; tracks that share frames also share their depth."""
    data, factor = settings.data, spatial_factor(components.vae)
    videos = 1 if settings.one_step.teacher is None else 2
    latents = videos * 4 * (data.height // factor) * (data.width // factor)
    tokens = components.image_encoder.config.projection_dim if data.occluders.annotations is None else 0
    depth = data.height * data.width if with_depth else 0
    return _FLOAT32 * data.frames * (latents + tokens + depth)


def fill(ahead: Ahead, storage: TensorCache, accelerator: Accelerator, *, skip_bad: bool) -> None:
    """Encode missing or damaged entries; all processes must call this together, and they share the clips.

    Args:
        ahead: the clips.
        storage: cache for the encoded clips.
        accelerator: accelerator of this process.
        skip_bad: skip a clip that cannot be read, with a warning.

    Raises:
        InputError: in every process, if the disk has too little space, or a clip cannot be read and is not skipped.
    """
    main_first(accelerator, lambda: announce(storage.folder, clips=len(ahead), clip_bytes=ahead.clip_bytes))
    together(lambda: _fill(ahead, storage, accelerator, skip_bad=skip_bad))


@torch.no_grad()
def _fill(ahead: Ahead, storage: TensorCache, accelerator: Accelerator, *, skip_bad: bool) -> None:
    places = _share(ahead, accelerator)
    made, noted = 0, time.monotonic()
    for done, place in enumerate(places, start=1):
        try:
            with accelerator.autocast():
                made += sum(storage.fill(entry) for entry in ahead.entries(place))
        except InputError as error:
            if not skip_bad:
                raise
            logger.warning("left out: %s", " ".join(str(error).split()))
        if done == len(places) or time.monotonic() - noted > _SECONDS_BETWEEN_LINES:
            logger.info("%d of %d clips of this process, %d files written", done, len(places), made)
            noted = time.monotonic()


def verify(ahead: Ahead, storage: TensorCache, accelerator: Accelerator) -> bool:
    """Check, without writing, that no entry is missing or damaged; all processes must call this together.

    Args:
        ahead: the clips.
        storage: cache with the encoded clips.
        accelerator: accelerator of this process.

    Returns:
        whether all entries are intact and every clip can be read; the same in every process.
    """
    states = together(lambda: _states(ahead, storage, accelerator))
    found: Found = sum(gather_object([states]), Counter())
    logger.info("intact: %d, missing: %d, damaged: %d", found["intact"], found["missing"], found["damaged"])
    if found["unreadable"]:
        logger.info("clips that cannot be read: %d", found["unreadable"])
    return found.keys() <= {"intact"}


def _states(ahead: Ahead, storage: TensorCache, accelerator: Accelerator) -> Found:
    found: Found = Counter()
    for place in _share(ahead, accelerator):
        try:
            states = Counter(storage.state(entry.key) for entry in ahead.entries(place))
        except InputError as error:
            logger.info("cannot be read: %s", " ".join(str(error).split()))
            found["unreadable"] += 1
            continue
        if states.keys() - {"intact"}:
            logger.info("%s: %d missing, %d damaged", ahead.name(place), states["missing"], states["damaged"])
        found.update(states)
    return found


def _share(ahead: Ahead, accelerator: Accelerator) -> list[int]:
    """Indices of this process's clips: a contiguous range, because neighboring tracks often share frames."""
    parts = np.array_split(np.arange(len(ahead)), accelerator.num_processes)
    places: list[int] = parts[accelerator.process_index].tolist()
    return places


def _amount(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"


if __name__ == "__main__":
    sys.exit(precompute_main(sys.argv[1:]))
