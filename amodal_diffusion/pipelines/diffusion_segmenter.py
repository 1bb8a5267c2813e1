"""The diffusion model's stage 1 as an `AmodalSegmenter`: whole clip in, masks and probabilities at its size out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.cuts import clip_cuts, shots_of
from amodal_diffusion.pipelines.completer import AmodalCompleter, CompletionConfig
from amodal_diffusion.pipelines.preprocessing import clip_frames
from amodal_diffusion.types import AmodalResult, FloatArray, Segmentation, VideoClip

_SEEDS = 2**31


class DiffusionSegmenter:
    """Predicts amodal masks with stage 1, as :class:`~amodal_diffusion.pipelines.completer.AmodalCompleter` does.

    Args:
        completer: has stage 1 loaded.
        config: how it is sampled; the checkpoint's default when None.

    Raises:
        InputError: if the completer has no diffusion stage 1.
    """

    def __init__(self, completer: AmodalCompleter, config: CompletionConfig | None = None) -> None:
        self.completer, self.config = completer, config or completer.config()
        if self.config.amodal_segmentation is None:
            raise InputError("completer: expected one whose stage 1 is diffusion; load amodal_segmentation")
        self.sampling = self.config.amodal_segmentation

    @classmethod
    def from_folder(cls, folder: Path, *, device: str | torch.device = "cpu") -> DiffusionSegmenter:
        """Load a checkpoint, which is sampled as it says.

        Raises:
            InputError: as :meth:`AmodalCompleter.from_pretrained`.
        """
        completer = AmodalCompleter.from_pretrained(folder, stages=("amodal_segmentation",), device=device)
        completer.warn_without_depth = False  # methods are compared with depth and without
        return cls(completer)

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """Predict the amodal masks of a clip; each shot is a clip of its own.

        A frame is not valid if no frame of its shot shows the object.

        Args:
            clip: frames and modal masks.
            depth: any scale, nearer is larger, float32 ``[F, H, W]``; None for none.
            generator: draws the seed; 0 when None, as the completer has it.
        """
        seed = 0 if generator is None else int(torch.randint(_SEEDS, (1,), generator=generator))
        result = self.completer(clip, self.config, depth=depth, seed=seed)
        probability = self._probability(clip, result)
        valid = np.zeros(clip.num_frames, dtype=np.bool_)
        for first, end in shots_of(clip.num_frames, clip_cuts(clip)):
            valid[first:end] = clip.modal_mask[first:end].any()
        inside = result.amodal_mask
        score = (probability * inside).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
        return Segmentation(inside, probability, valid, score.astype(np.float32))

    def _probability(self, clip: VideoClip, result: AmodalResult) -> FloatArray:
        """The network's score at the size of the frames, 1 where the object is visible, float32 ``[F, H, W]``."""
        found = clip.modal_mask.astype(np.float32)
        if result.score is None:
            return found
        for number, frame in enumerate(clip_frames(clip)):
            geometry = frame.geometry(self.sampling)
            score = torch.from_numpy(result.score[number])[None, None]
            found[number] = np.maximum(found[number], geometry.invert(score, outside=0.0)[0, 0].numpy())
        return found.clip(0, 1)
