"""The baseline that completes nothing: the amodal mask is the modal one."""

from __future__ import annotations

from amodal_diffusion.types import BoolArray, FloatArray, VideoClip


class ModalSegmenter:
    """Returns the modal mask."""

    def __call__(self, clip: VideoClip, depth: FloatArray | None) -> BoolArray:  # noqa: ARG002 (the protocol's)
        """See `AmodalSegmenter`."""
        return clip.modal_mask.copy()
