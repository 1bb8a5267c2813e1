"""A whole clip as a stream of frames, and the results of a stream as one of the whole clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from amodal_diffusion.frames.crop import follow
from amodal_diffusion.frames.transforms import depth_to_unit
from amodal_diffusion.pipelines.occlusion_intervals import SpanFrame, Spans, find_spans, given_spans
from amodal_diffusion.pipelines.streams import FrameInput
from amodal_diffusion.types import AmodalResult, BoolArray, FloatArray, InputError, UInt8Array, VideoClip


def clip_stream(
    clip: VideoClip, depth: FloatArray | None, amodal_mask: BoolArray | None, *, spans: Literal["auto", "all"]
) -> tuple[Iterator[FrameInput], Spans | None]:
    """Take a clip apart.

    Args:
        clip: frames and modal masks.
        depth: float ``[F, H, W]``, any scale, nearer is larger; None for none.
        amodal_mask: bool ``[F, H, W]``, where it is known.
        spans: ``"auto"`` finds where the object can be hidden.

    Returns:
        its frames in order, and the spans; None for all of the clip.

    Raises:
        InputError: if shapes do not match, or masks are not boolean.
    """
    shape = clip.modal_mask.shape
    for name, array in (("depth", depth), ("amodal_mask", amodal_mask)):
        if array is not None and array.shape != shape:
            raise InputError(f"{name}: expected {list(shape)} to match the clip, got {list(array.shape)}")
    if amodal_mask is not None and amodal_mask.dtype != np.bool_:
        raise InputError(f"amodal_mask: expected bool, got {amodal_mask.dtype}")
    scaled = None if depth is None else depth_to_unit(depth)[:, 0].numpy()  # [F, H, W]
    focuses = follow(clip.modal_mask if amodal_mask is None else clip.modal_mask | amodal_mask)
    frames = (
        FrameInput(
            rgb=clip.rgb[index],
            modal=clip.modal_mask[index],
            depth=None if scaled is None else scaled[index],
            amodal=None if amodal_mask is None else amodal_mask[index],
            focus=focuses[index],
        )
        for index in range(clip.num_frames)
    )
    return frames, _find_spans(clip, scaled, amodal_mask) if spans == "auto" else None


def joined(results: Sequence[AmodalResult]) -> AmodalResult:
    """Put the runs of finished frames of a stream together.

    Args:
        results: in order, at least one.
    """
    answers = [result.samples for result in results if result.samples is not None]
    return AmodalResult(
        amodal_mask=np.concatenate([result.amodal_mask for result in results]),
        amodal_rgb=_concatenate([result.amodal_rgb for result in results]),
        rgba=_concatenate([result.rgba for result in results]),
        samples=np.concatenate(answers, axis=1) if answers else None,
    )


def _find_spans(clip: VideoClip, depth: FloatArray | None, amodal_mask: BoolArray | None) -> Spans:
    if amodal_mask is not None:
        return given_spans(zip(clip.modal_mask, amodal_mask, strict=True))
    maps = [None] * clip.num_frames if depth is None else depth
    return find_spans(SpanFrame(modal, values) for modal, values in zip(clip.modal_mask, maps, strict=True))


def _concatenate(parts: list[UInt8Array | None]) -> UInt8Array | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None
