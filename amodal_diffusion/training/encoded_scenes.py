"""Generated scenes that are encoded once before a run, each with one draw of condition noise, as float16.

There are as many scenes as a run wants, so a step sees each draw a few times only. Tracks are few and are shown again
and again; of these only what has no noise is kept (`latent_cache`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.data.cache import Entry, TensorCache, content_key
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.models.weights import fingerprint
from amodal_diffusion.propagation.mask_prior import MOTION_VERSION
from amodal_diffusion.synthetic.catalogue import TRAIN_VERSION
from amodal_diffusion.training.batches import seeded_generator
from amodal_diffusion.training.dataset import TaskClips, training_clips
from amodal_diffusion.training.latents import LatentBatch, encode_batch
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import InputError

_LATENT_CHANNELS = 4
_FLOAT16 = 2


class EncodedScenes(Dataset[LatentBatch]):
    """The encoded scenes of a run's training split, each read as a batch of one.

    Args:
        settings: stage, size, scenes, noise and number of clips.
        storage: what `train/precompute.py` has filled.
        components: VAE and image encoder; their weights are part of the entries' names.
    """

    def __init__(self, settings: TrainingSettings, storage: TensorCache, components: StageComponents) -> None:
        self.storage = storage
        self._settings = settings
        self._made_by = _made_by(settings, components)
        factor = spatial_factor(components.vae)
        self._shape = (_LATENT_CHANNELS, settings.data.height // factor, settings.data.width // factor)

    def __len__(self) -> int:
        """Number of scenes."""
        return self._settings.data.clips

    def name(self, index: int) -> str:
        """What a message calls a scene."""
        return f"encoded scene {index}, {self.storage.path(self.key(index))}"

    def key(self, index: int) -> str:
        """Name of a scene's entry: a digest of all that its latents follow from."""
        return content_key("scene", self._made_by, index.to_bytes(8, "big"))

    def __getitem__(self, index: int) -> LatentBatch:
        """Read one scene, float16.

        Raises:
            InputError: if its entry is missing or damaged.
        """
        return _unpack(self.storage.get(Entry(self.key(index), self._refuse)), self._shape)

    def check(self) -> None:
        """Check that there is a file for every scene.

        Raises:
            InputError: gives the number of those that are missing.
        """
        missing = sum(not self.storage.path(self.key(index)).is_file() for index in range(len(self)))
        if missing:
            raise InputError(
                f"data.cache: {self.storage.folder} lacks {missing} of {len(self)} scenes of these settings and "
                "networks; run train/precompute.py with the same --config and options"
            )

    def entry(self, index: int, components: StageComponents) -> Entry:
        """What can be kept of a scene, encoded with noise of the stream (seed, index).

        Args:
            index: of the scene.
            components: VAE and image encoder on the device of the work.
        """
        return Entry(self.key(index), lambda: self._encode(index, components))

    def clip_bytes(self, token_width: int) -> int:
        """Bytes of a scene with tokens of a width, the file's header aside."""
        return _FLOAT16 * self._settings.data.frames * (3 * math.prod(self._shape) + token_width + 1)

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
        return _pack(batch.to("cpu")).half()  # joined in float32: CPU autocast joins no float16

    def _refuse(self) -> Tensor:
        raise InputError(f"missing or damaged in {self.storage.folder}; run train/precompute.py again")


def _made_by(settings: TrainingSettings, components: StageComponents) -> Mapping[str, str]:
    """All that an encoded scene follows from, except which scene it is."""
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
    """A batch of one as one tensor ``[F, 3 * 4 * h * w + D + 1]``, the strength of the noise repeated."""
    strength = clip.noise_aug_strength[:, None].expand(clip.tokens.shape[1], 1)  # [F, 1]
    parts = (clip.target[0], clip.modal[0], clip.guide[0], clip.tokens[0], strength)
    return torch.cat([part.flatten(start_dim=1) for part in parts], dim=1)


def _unpack(packed: Tensor, shape: tuple[int, int, int]) -> LatentBatch:
    """The batch of one that :func:`_pack` has packed.

    Args:
        packed: ``[F, 3 * 4 * h * w + D + 1]``.
        shape: ``(4, h, w)``.
    """
    latent = math.prod(shape)
    *latents, tokens, strength = packed.split([latent, latent, latent, packed.shape[1] - 3 * latent - 1, 1], dim=1)
    target, modal, guide = (part.unflatten(1, shape)[None] for part in latents)  # [1, F, 4, h, w]
    return LatentBatch(target, modal, guide, tokens[None], strength[0])
