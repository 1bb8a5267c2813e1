"""Generated scenes that are encoded once before a run, as float16, each with one draw of condition noise.

Generated scenes are plentiful, so training sees each draw of noise only a few times. Tracks are few and are repeated
often; for these, only the noise-free tensors are cached (`latent_cache`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.cache import Entry, TensorCache, content_key
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.models.weights import fingerprint
from amodal_diffusion.propagation.mask_prior import MOTION_VERSION
from amodal_diffusion.synthetic.catalogue import TRAIN_VERSION
from amodal_diffusion.training.clip_sources import training_clips
from amodal_diffusion.training.dataset import TaskClips
from amodal_diffusion.training.distillation import Teacher
from amodal_diffusion.training.latents import LatentBatch, encode_batch, take_samples
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.settings import TrainingSettings

_LATENT_CHANNELS = 4
_FLOAT16 = 2


class EncodedScenes(Dataset[LatentBatch]):
    """Encoded scenes of the training split, each read as a batch of size one.

    Args:
        settings: resolved training settings.
        storage: cache that `train/precompute.py` has filled.
        components: VAE and image encoder; the keys depend on their weights.
        teacher: teacher whose samples are the target of a share of the scenes.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        storage: TensorCache,
        components: StageComponents,
        teacher: Teacher | None = None,
    ) -> None:
        self.storage = storage
        self.teacher = teacher
        self._settings = settings
        self._made_by = _made_by(settings, components)
        factor = spatial_factor(components.vae)
        self._shape = (_LATENT_CHANNELS, settings.data.height // factor, settings.data.width // factor)

    def __len__(self) -> int:
        """Number of scenes."""
        return self._settings.data.clips

    def name(self, index: int) -> str:
        """Name of a scene, for messages."""
        return f"encoded scene {index}, {self.storage.path(self.key(index))}"

    def key(self, index: int) -> str:
        """Key of a scene's entry: a digest of everything that its latents depend on."""
        return content_key("scene", self._made_by, index.to_bytes(8, "big"))

    def __getitem__(self, index: int) -> LatentBatch:
        """Read one scene as float16.

        Raises:
            InputError: if its entry is missing or damaged.
        """
        scene = _unpack(self.storage.get(Entry(self.key(index), self._refuse)), self._shape)
        if self.teacher is None:
            return scene
        return take_samples(scene, [self.teacher.read_sample(self.teacher_entry(index))])

    def check(self) -> None:
        """Check that every scene has a file.

        Raises:
            InputError: if files are missing; the message gives their number.
        """
        missing = sum(
            not all(self.storage.path(key).is_file() for key in self._keys(index)) for index in range(len(self))
        )
        if missing:
            raise InputError(
                f"data.cache: {self.storage.folder} lacks {missing} of {len(self)} scenes of these settings and "
                "networks; run train/precompute.py with the same --config and options"
            )

    def _keys(self, index: int) -> list[str]:
        """Keys of all entries that training reads of a scene."""
        sample = self.teacher_entry(index)
        return [self.key(index)] if sample is None else [self.key(index), sample.key]

    def entry(self, index: int, components: StageComponents) -> Entry:
        """Cache entry of a scene, encoded with condition noise that is seeded by the run's seed and the index.

        Args:
            index: index of the scene.
            components: VAE and image encoder on the device that encodes.
        """
        return Entry(self.key(index), lambda: self._encode(index, components))

    def teacher_entry(self, index: int) -> Entry | None:
        """Cache entry of the teacher's sample of a scene; None if the scene has its true target."""
        if self.teacher is None:
            return None
        return self.teacher.entry_of_scene(self.key(index), lambda: self._clips[index])

    def clip_bytes(self, token_width: int) -> int:
        """Largest size of a scene in bytes, without the files' headers, for tokens of width ``token_width``."""
        latents = 3 if self.teacher is None else 4
        return _FLOAT16 * self._settings.data.frames * (latents * math.prod(self._shape) + token_width + 1)

    @cached_property
    def _clips(self) -> TaskClips:
        return training_clips(self._settings)

    def _encode(self, index: int, components: StageComponents) -> Tensor:
        device = components.vae.device
        batch = encode_batch(
            self._clips[index].to(device),
            vae=components.vae,
            image_encoder=components.image_encoder,
            noise=self._settings.noise,
            generators=[seeded_generator("precompute", self._settings.seed, index, device=device)],
        )
        return _pack(batch.to("cpu")).half()  # concatenated in float32: CPU autocast cannot concatenate float16

    def _refuse(self) -> Tensor:
        raise InputError(f"missing or damaged in {self.storage.folder}; run train/precompute.py again")


def _made_by(settings: TrainingSettings, components: StageComponents) -> Mapping[str, str]:
    """Everything that an encoded scene depends on, except its index."""
    data, sampling, noise = settings.data, settings.sampling, settings.noise
    cropped = sampling.fit == "crop"
    made_by = {
        "stage": settings.stage,
        "size": (data.frames, data.height, data.width),
        "crop": (data.scene_height, data.scene_width, sampling.beyond.crop_scale) if cropped else None,
        "scenes": (TRAIN_VERSION, data.seed, data.degraded_share, data.depthless_share),
        "temporal_prior": MOTION_VERSION if sampling.beyond.temporal_prior else None,
        "noise": (settings.seed, noise.condition_log_mean, noise.condition_log_std),
        "precision": settings.mixed_precision,
        "vae": fingerprint(components.vae),
        "image_encoder": fingerprint(components.image_encoder),
    }
    return {name: str(value) for name, value in made_by.items()}


def _pack(clip: LatentBatch) -> Tensor:
    """Pack a batch of size one into a tensor ``[F, 3 * 4 * h * w + D + 1]``; the noise strength is repeated."""
    strength = clip.noise_aug_strength[:, None].expand(clip.tokens.shape[1], 1)  # [F, 1]
    parts = (clip.target[0], clip.modal[0], clip.guide[0], clip.tokens[0], strength)
    return torch.cat([part.flatten(start_dim=1) for part in parts], dim=1)


def _unpack(packed: Tensor, shape: tuple[int, int, int]) -> LatentBatch:
    """Inverse of :func:`_pack`.

    Args:
        packed: ``[F, 3 * 4 * h * w + D + 1]``.
        shape: shape ``(4, h, w)`` of the latents of a frame.
    """
    latent = math.prod(shape)
    *latents, tokens, strength = packed.split([latent, latent, latent, packed.shape[1] - 3 * latent - 1, 1], dim=1)
    target, modal, guide = (part.unflatten(1, shape)[None] for part in latents)  # [1, F, 4, h, w]
    return LatentBatch(target, modal, guide, tokens[None], strength[0])
