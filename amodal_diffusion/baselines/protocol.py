"""What every way of completing masks offers, learned or not."""

from __future__ import annotations

from typing import Protocol

from amodal_diffusion.types import BoolArray, FloatArray, VideoClip


class AmodalSegmenter(Protocol):
    """Predicts the whole mask of the object of a clip."""

    def __call__(self, clip: VideoClip, depth: FloatArray | None) -> BoolArray:
        """Predict the amodal mask.

        Args:
            clip: the frames and the modal mask.
            depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where there is none.

        Returns:
            bool ``[F, H, W]``; contains the modal mask.
        """
        ...
