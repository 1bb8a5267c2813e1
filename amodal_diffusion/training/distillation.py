"""A teacher's samples as training targets: what many steps under guidance give, to be given by one step.

``train/precompute.py`` samples the teacher and stores its latents; training only reads them. A clip's key decides
whether the teacher's sample or the true amodal video is its target, so that every process and every resumed run agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Self

import torch
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.cache import Entry, TensorCache, content_key
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.weights import fingerprint
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.training.dataset import TaskBatch
from amodal_diffusion.training.settings import TrainingSettings

_KEY_BITS = 60


class Teacher:
    """The teacher of a run, and the storage of its samples.

    Args:
        settings: resolved settings, with ``one_step.teacher``.
        storage: storage of the samples.
        pipeline: the teacher, which is sampled as its checkpoint says.
    """

    def __init__(self, settings: TrainingSettings, storage: TensorCache, pipeline: ConditionedVideoPipeline) -> None:
        self.storage = storage
        self._pipeline: ConditionedVideoPipeline | None = pipeline
        self._share = settings.one_step.teacher_share
        self._guided = settings.data.guide_dropout < 1.0  # the teacher sees what the student sees
        self._made_by = {
            "networks": ",".join(fingerprint(net) for net in (pipeline.unet, pipeline.vae, pipeline.image_encoder)),
            "sampling": repr(pipeline.settings.sampling),
            "guided": str(self._guided),
            "precision": settings.mixed_precision,
        }

    @classmethod
    def of(cls, settings: TrainingSettings, storage: TensorCache | None) -> Self | None:
        """Load a run's teacher onto the CPU; None if the run has none.

        Raises:
            InputError: if it cannot be loaded.
        """
        if settings.one_step.teacher is None or storage is None:
            return None
        components = load_stage(settings.one_step.teacher, stage=settings.stage)
        pipeline = ConditionedVideoPipeline.from_components(components)
        pipeline.set_progress_bar_config(disable=True)
        return cls(settings, storage, pipeline)

    def to(self, device: torch.device | str) -> Self:
        """Move the networks to the device that samples."""
        if self._pipeline is not None:
            self._pipeline.to(device)
        return self

    def without_networks(self) -> Self:
        """Drop the networks, which training does not need: it only reads samples."""
        self._pipeline = None
        return self

    def entry_of_scene(self, scene_key: str, read: Callable[[], TaskBatch]) -> Entry | None:
        """Sample of a generated scene.

        Args:
            scene_key: key of the encoded scene, which stands for the clip.
            read: reads the clip, a batch of one, where the sample has to be made.

        Returns:
            the entry, or None if the target of this clip is its true amodal video.
        """
        return self._entry(content_key("teacher", self._made_by, scene_key.encode()), read)

    def entry_of_track(self, clip: TaskBatch) -> Entry | None:
        """Sample of a track, a batch of one, found by its content; None if the track keeps its true target."""
        return self._entry(
            content_key("teacher", self._made_by, clip.modal, clip.guide, clip.guide_present), lambda: clip
        )

    def read_sample(self, entry: Entry | None) -> Tensor | None:
        """The stored sample of an entry; None for None.

        Raises:
            InputError: if it is missing or damaged.
        """
        return None if entry is None else self.storage.get(Entry(entry.key, self._refuse))

    def read_sample_of_track(self, clip: TaskBatch) -> Tensor | None:
        """The stored sample of a track; errors as :meth:`read_sample`."""
        return self.read_sample(self.entry_of_track(clip))

    def _entry(self, key: str, read: Callable[[], TaskBatch]) -> Entry | None:
        if _number(key) >= self._share * 2**_KEY_BITS:
            return None
        return Entry(key, lambda: self._sample(read(), seed=_number(key)))

    def _sample(self, clip: TaskBatch, *, seed: int) -> Tensor:
        """Scaled latents ``[F, 4, h, w]``, float16."""
        if self._pipeline is None:
            self._refuse()
        guided = self._guided and bool(clip.guide_present.all())
        output = self._pipeline(
            clip.modal,
            clip.guide if guided else None,
            generator=torch.Generator().manual_seed(seed),
            decoded=slice(0, 1),
        )
        return output.latents[0].half().cpu()

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"data.cache: {self.storage.folder} lacks a sample of the teacher, or it is damaged; run "
            "train/precompute.py with the same --config and options"
        )


def _number(key: str) -> int:
    """A number from 0 to below 2^60 that is spread evenly over the keys."""
    return int(key[: _KEY_BITS // 4], 16)
