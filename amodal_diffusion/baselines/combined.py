"""Baselines made of baselines: the union of several, and what of one a nearer thing can hide."""

from __future__ import annotations

from amodal_diffusion.baselines.protocol import AmodalSegmenter
from amodal_diffusion.types import BoolArray, FloatArray, InputError, VideoClip
from amodal_diffusion.video.nearer import nearer_pixels


class UnionSegmenter:
    """Returns every pixel that one of its parts returns."""

    def __init__(self, *parts: AmodalSegmenter) -> None:
        """Take the parts.

        Args:
            parts: at least one.
        """
        self._parts = parts

    def __call__(self, clip: VideoClip, depth: FloatArray | None) -> BoolArray:
        """See `AmodalSegmenter`."""
        whole = clip.modal_mask.copy()
        for part in self._parts:
            whole |= part(clip, depth)
        return whole


class NearerSegmenter:
    """Returns what another segmenter does where something nearer than the object can hide it."""

    def __init__(self, inner: AmodalSegmenter) -> None:
        """Take the segmenter to restrict."""
        self._inner = inner

    def __call__(self, clip: VideoClip, depth: FloatArray | None) -> BoolArray:
        """See `AmodalSegmenter`.

        Raises:
            InputError: if there is no depth.
        """
        if depth is None:
            raise InputError("depth: a baseline of nearer pixels needs depth, got none; give a depth source")
        return clip.modal_mask | (self._inner(clip, depth) & nearer_pixels(clip.modal_mask, depth))
