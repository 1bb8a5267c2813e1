"""Cached inputs of training: depth of frames, and latents and tokens of noise-free clips (docs/training.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from amodal_diffusion.data.cache import Entry, TensorCache, content_key, frame_identity
from amodal_diffusion.models.conditioning import clip_tokens
from amodal_diffusion.models.depth import DepthEstimator
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.latents import Autoencoder, encode_video
from amodal_diffusion.models.weights import fingerprint
from amodal_diffusion.training.dataset import FrameView
from amodal_diffusion.training.run_settings import Precision
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import FloatArray


class LatentCache:
    """Cache of the latents and tokens of noise-free clips.

    Args:
        storage: storage of the tensors.
        vae: computes missing latents.
        image_encoder: computes missing tokens.
        precision: precision of autocast, part of the keys.
    """

    def __init__(
        self,
        storage: TensorCache,
        *,
        vae: Autoencoder,
        image_encoder: CLIPVisionModelWithProjection,
        precision: Precision,
    ) -> None:
        self.storage = storage
        self._vae, self._image_encoder = vae, image_encoder
        self._latents_by = {"network": fingerprint(vae), "precision": precision}
        self._tokens_by = {"network": fingerprint(image_encoder), "precision": precision}

    def latents(self, video: Tensor) -> Tensor:
        """Latents of clips, as of :func:`~amodal_diffusion.models.latents.encode_video`."""
        return self._rows(video, self.latents_entry)

    def tokens(self, video: Tensor) -> Tensor:
        """Tokens of clips, as of :func:`~amodal_diffusion.models.conditioning.clip_tokens`."""
        return self._rows(video, self.tokens_entry)

    def latents_entry(self, clip: Tensor) -> Entry:
        """Latents ``[F, 4, h, w]`` of a clip ``[F, 1 or 3, H, W]``."""
        key = content_key("latents", self._latents_by, clip)
        return Entry(key, lambda: encode_video(self._vae, clip[None])[0])

    def tokens_entry(self, clip: Tensor) -> Entry:
        """Tokens ``[F, D]`` of a clip ``[F, 1 or 3, H, W]``."""
        key = content_key("tokens", self._tokens_by, clip)
        return Entry(key, lambda: clip_tokens(self._image_encoder, clip[None])[0])

    def _rows(self, video: Tensor, entry: Callable[[Tensor], Entry]) -> Tensor:
        return torch.stack([self.storage.get(entry(clip)).to(self._vae.device) for clip in video])


def latent_cache(settings: TrainingSettings, storage: TensorCache, components: StageComponents) -> LatentCache:
    """Cache for a run's networks and precision."""
    return LatentCache(
        storage,
        vae=components.vae,
        image_encoder=components.image_encoder,
        precision=settings.mixed_precision,
    )


class FrameDepth:
    """Cached depth of frames at the size of the network's input, estimated frame by frame.

    Args:
        estimator: estimates missing depth.
        storage: storage of the depth maps; None estimates depth each time.
    """

    def __init__(self, estimator: DepthEstimator, storage: TensorCache | None) -> None:
        self.storage = storage
        self._estimator = estimator
        self._made_by = {} if storage is None else {"network": estimator.fingerprint()}

    def __call__(self, views: Sequence[FrameView]) -> FloatArray:
        """Depth of a clip, any scale, nearer is larger, float32 ``[F, h, w]``."""
        storage = self.storage
        if storage is None:
            return np.stack([self._make(view).numpy() for view in views])
        return np.stack([storage.get(self.entry(view)).numpy() for view in views])

    def entry(self, view: FrameView) -> Entry:
        """Depth ``[h, w]`` of a frame, found without reading its file: 25 frames of 800x1280 are 77 MB of pixels."""
        key = content_key("depth", self._made_by, frame_identity(view.file), repr(view.geometry).encode())
        return Entry(key, lambda: self._make(view))

    def _make(self, view: FrameView) -> Tensor:
        depth = torch.from_numpy(self._estimator(view.read()[None]))  # [1, H, W]
        return view.geometry.apply(depth[:, None], "edge")[0, 0]


def computes_depth(settings: TrainingSettings) -> bool:
    """Whether a run estimates the depth for its guide: stage 1 on recorded clips, with a depth model."""
    of_tracks = bool(settings.data.sources) and settings.stage == "amodal_segmentation"
    return of_tracks and settings.model.depth_model is not None


def frame_depth(
    settings: TrainingSettings, storage: TensorCache | None, device: torch.device | str
) -> FrameDepth | None:
    """Load the depth estimator of a run; None if :func:`computes_depth` is False.

    Args:
        settings: resolved training settings.
        storage: storage of the depth maps; None for no cache.
        device: device of the depth network.

    Raises:
        InputError: if the network cannot be loaded.
    """
    name = settings.model.depth_model
    if name is None or not computes_depth(settings):
        return None
    return FrameDepth(DepthEstimator.from_pretrained(name, device=device), storage)
