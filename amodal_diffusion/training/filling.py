"""Fill a cache with what of a run's tracks can be encoded ahead, or check that it is there (docs/caches.md)."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from amodal_diffusion.data.cache import Entry, State, TensorCache
from amodal_diffusion.data.occluders import OccludedTracks
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.training.caching import FrameDepth, LatentCache, frame_depth, latent_cache
from amodal_diffusion.training.clips import tracks
from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.training.disk import announce
from amodal_diffusion.training.processes import main_first, together
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.tasks import TrainingTask, task_of
from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)

_FLOAT32 = 4
_SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class _Tracks:
    """An annotation file's tracks, and whether they are trained on or only validated, which takes their depth alone."""

    samples: SailVosDataset | OccludedTracks
    trained: bool


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
        if data.occluders.annotations is not None and data.zoom is not None:
            raise InputError(
                "data.zoom: close-ups follow what occluders leave visible, so no clip of stage 2 looks the same twice "
                "and nothing can be encoded ahead; train without data.cache"
            )
        self.storage = storage
        self._task: TrainingTask = task_of(settings.stage, other_frames=settings.sampling.other_frames)
        self._latents: LatentCache = latent_cache(settings, storage, components)
        self._depth: FrameDepth | None = frame_depth(settings, storage, components.vae.device)
        self._clips = [
            (part, index)
            for part in _parts(settings, self._task, count=count, with_depth=self._depth is not None)
            for index in range(len(part.samples))
        ]
        self._clip_bytes = _clip_bytes(data, components, with_depth=self._depth is not None)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._clips)

    def announce(self) -> None:
        """Log what it will take of the disk; raises InputError if there is too little."""
        announce(self.storage.folder, clips=len(self), clip_bytes=self._clip_bytes, there=self.storage.disk_use())

    def name(self, place: int) -> str:
        """What messages call a clip."""
        part, index = self._clips[place]
        return part.samples.name(index)

    def entries(self, place: int) -> Iterator[Entry]:
        """All that can be kept of a clip.

        Raises:
            InputError: if the clip cannot be read.
        """
        part, index = self._clips[place]
        if isinstance(part.samples, OccludedTracks):
            whole = part.samples.whole(index)
            if whole is not None:
                yield self._latents.latents_entry(self._task.prepare(whole).amodal[0])
            return
        track = part.samples.load(index)
        if part.trained:
            clip = self._task.prepare(part.samples.sample(track, modal=track.modal, amodal=track.amodal))
            yield self._latents.latents_entry(clip.amodal[0])
            yield self._latents.tokens_entry(clip.modal[0])
        if self._depth is not None:
            for look in part.samples.looks(track, modal=track.modal):
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


def _parts(settings: TrainingSettings, task: TrainingTask, *, count: int, with_depth: bool) -> Iterator[_Tracks]:
    data = settings.data
    if data.annotations is not None:
        yield _Tracks(tracks(data, task, data.annotations, data.images, limit=count or None), trained=True)
    if with_depth and settings.validation.every and data.validation_annotations is not None:
        clips = settings.validation.clips
        yield _Tracks(
            tracks(data, task, data.validation_annotations, data.validation_images, limit=clips), trained=False
        )


def _clip_bytes(data: DataSettings, components: StageComponents, *, with_depth: bool) -> int:
    """Bytes of a clip, at most: tracks may share frames and so their depth."""
    factor = spatial_factor(components.vae)
    latents = 4 * (data.height // factor) * (data.width // factor)
    tokens = components.image_encoder.config.projection_dim if data.occluders.annotations is None else 0
    depth = data.height * data.width if with_depth else 0
    return _FLOAT32 * data.frames * (latents + tokens + depth)
