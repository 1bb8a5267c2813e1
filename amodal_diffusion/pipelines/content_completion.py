"""Stage 2 on one page, modal RGB + amodal mask -> amodal RGB: preprocess, sample, blend windows, postprocess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.basics import Stage
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.frames.layers import color_outline, extended_colors
from amodal_diffusion.frames.masks import WHITE, bounds, compose_rgba, cut_out_on_white, shrunk_mask
from amodal_diffusion.frames.seams import blend_seams
from amodal_diffusion.frames.transforms import to_uint8
from amodal_diffusion.frames.windows import Window, WindowStream
from amodal_diffusion.pipelines.amodal_segmentation import SegmentedFrame
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline, WindowRequest, sample_windows
from amodal_diffusion.pipelines.occlusion_intervals import OcclusionIntervals, occluded_part, open_windows
from amodal_diffusion.pipelines.preprocessing import frame_device, preprocess_content
from amodal_diffusion.propagation.colors import HiddenColors, blend_colors, fade_colors, propagated_colors
from amodal_diffusion.types import AmodalResult

_OUTLINE = 1.5
"""Pixels of the network beside the outline in which its painting is mixed with the white around the object."""


class ContentCompletionPipeline(ConditionedVideoPipeline):
    """``modal`` is the visible part on white, RGB in [-1, 1]; ``guide`` is the amodal mask, -1 outside and 1 inside."""

    stage: ClassVar[Stage | None] = "content_completion"


@dataclass(frozen=True)
class CompletedFrame:
    """A frame of one object whose appearance is final.

    Attributes:
        result: of this frame alone, ``F`` = 1.
        removed: pixels that each mask filter removed in stage 1.
        hidden: hidden pixels that were painted; counted with color propagation alone.
        propagated: how many of these took their color from other frames; half a color counts half.
    """

    result: AmodalResult
    removed: Counter[str] = field(default_factory=Counter)
    hidden: float = 0.0
    propagated: float = 0.0


@dataclass
class _Object:
    """What stage 2 holds of one object between windows.

    Attributes:
        windows: frames without a final painting.
        intervals: frames in which the object can be occluded; all when None.
        done: first frames that need no result.
        colors: from other frames, by number of a frame that is not final.
        finished: frames that are final.
    """

    windows: WindowStream[SegmentedFrame]
    intervals: OcclusionIntervals | None
    done: int
    colors: dict[int, HiddenColors | None] = field(default_factory=dict)
    finished: int = 0


class ContentStream:
    """Stage 2 over the frames of a shot, of one or several objects; memory is that of the open windows.

    Args:
        pipeline: stage 2.
        config: how it is sampled.
        intervals: for each object, the frames in which it can be occluded; see
            :class:`~amodal_diffusion.pipelines.amodal_segmentation.SegmentationStream`.
        done: for each object, the first frames that need no result; no window of these alone is sampled.
        seed: the same seed gives the same colors.
        first: number in the stream of the shot's first frame, on which the noise depends; all else counts from it.
    """

    def __init__(
        self,
        pipeline: ContentCompletionPipeline,
        config: SamplingConfig,
        intervals: Sequence[OcclusionIntervals | None],
        *,
        done: Sequence[int],
        seed: int,
        first: int = 0,
    ) -> None:
        self._pipeline, self._config, self._seed, self._first = pipeline, config, seed, first
        self._device = frame_device(pipeline.unet)
        self._shrink = config.beyond.shrink_mask
        self._objects = [
            _Object(open_windows(config, found), found, count) for found, count in zip(intervals, done, strict=True)
        ]

    def push(self, frames: Sequence[SegmentedFrame | None] | None) -> Iterator[tuple[int, CompletedFrame]]:
        """Take the next frame of each object, and the windows that it completes through the stage.

        Args:
            frames: one an object, None where an object has none yet; None in place of all ends the shot.

        Yields:
            object and frame, as far as these are final, each object's in order; those of ``done`` left out.
        """
        config = self._config
        if frames is None:
            windows = [tracked.windows.finish() for tracked in self._objects]
        else:
            windows = [
                None if frame is None else tracked.windows.push(frame.shrunk(self._shrink))
                for tracked, frame in zip(self._objects, frames, strict=True)
            ]
        pushed = zip(self._objects, windows, strict=True)
        complete = [(tracked, window) for tracked, window in pushed if window is not None]

        # 1. Preprocess; a window that hides nothing needs no network
        requests: dict[int, WindowRequest] = {}
        for number, (tracked, window) in enumerate(complete):
            decoded = occluded_part(tracked.intervals, window)
            if self._needs_painting(tracked, window) and decoded[0] < decoded[1]:
                entries = window.items
                modal, guide = preprocess_content(
                    [entry.frame for entry in entries], [entry.amodal for entry in entries], config, self._device
                )
                requests[number] = WindowRequest(self._first + window.start, modal, guide, decoded)

        # 2. Sample: the windows of all objects are rows of one network call
        one = config.changed({"samples": 1})  # all samples of stage 1 share one painting
        sampled = sample_windows(self._pipeline, list(requests.values()), one, seed=self._seed)
        videos = dict(zip(requests, (video[0] for video in sampled), strict=True))

        # 3. Blend where windows overlap
        for number, (tracked, window) in enumerate(complete):
            nothing = torch.zeros(len(window.items), 3, config.height, config.width)
            tracked.windows.add(window, videos.get(number, nothing))

        # 4. Postprocess the frames that are final
        for place, tracked in enumerate(self._objects):
            for entry, painted in tracked.windows.take():
                number, tracked.finished = tracked.finished, tracked.finished + 1
                colors = tracked.colors.pop(number, None)
                if number >= tracked.done:
                    yield place, self._postprocess(entry, painted, colors)

    def _needs_painting(self, tracked: _Object, window: Window[SegmentedFrame]) -> bool:
        """Whether the network's painting counts in a window; with color propagation, also find the window's colors."""
        if window.start + len(window.items) <= tracked.done:
            return False
        if not self._config.beyond.color_propagation:
            return True
        hidden = [entry.amodal & ~entry.frame.modal for entry in window.items]  # the rims of shrunk masks included
        found: Sequence[HiddenColors | None] = [None] * len(hidden)
        if any(mask.any() for mask in hidden):
            found = _window_colors(window)
        fade_colors(tracked.colors, window.start, found)
        if self._shrink:  # a rim takes its colors from beside it where no other frame shows them
            hidden = [
                mask if entry.rim is None else mask & ~entry.rim
                for mask, entry in zip(hidden, window.items, strict=True)
            ]
        return any(mask.any() for mask in hidden)

    def _postprocess(
        self, entry: SegmentedFrame, painted: Tensor | None, colors: HiddenColors | None
    ) -> CompletedFrame:
        """Compose a frame of visible pixels, which stay the input's, and painted ones."""
        box = tuple(slice(*span) for span in bounds(entry.amodal | entry.frame.modal))
        rgb, modal, amodal = entry.frame.rgb[box], entry.frame.modal[box], entry.amodal[box]
        full, hidden, propagated = rgb, 0.0, 0.0
        if painted is not None:
            geometry = entry.frame.geometry(self._config)
            inverted = geometry.invert(painted[None].to(self._device), outside=1.0)[0]  # [3, H, W]
            full = to_uint8(inverted[:, *box])
            if self._config.beyond.seam_blending:
                full = blend_seams(full, rgb, modal, amodal & ~modal)
                solid = shrunk_mask(entry.amodal, round(_OUTLINE / min(1.0, geometry.scale)))[box]
                full = color_outline(np.where(modal[..., None], rgb, full), modal, amodal, solid)
        rim = None if entry.rim is None else entry.rim[box]
        if rim is not None and rim.any():
            full = full.copy()
            full[rim] = extended_colors(rgb, modal, rim)
        if painted is not None and self._config.beyond.color_propagation:
            missing = amodal & ~modal
            hidden = float(missing.sum())
            if colors is not None:
                full = blend_colors(full, missing, colors)
                propagated = float(colors.sure.sum())
        whole = np.where(modal[..., None], rgb, full)
        amodal_rgb = np.full_like(entry.frame.rgb, WHITE)
        amodal_rgb[box] = cut_out_on_white(whole, amodal)
        rgba = np.zeros((*entry.amodal.shape, 4), np.uint8)
        rgba[box] = compose_rgba(rgb, modal, whole, amodal)
        result = AmodalResult(
            amodal_mask=entry.amodal[None],
            amodal_rgb=amodal_rgb[None],
            rgba=rgba[None],
            samples=None if entry.samples is None else entry.samples[:, None],
            score=None if entry.score is None else entry.score[None],
        )
        return CompletedFrame(result, entry.removed, hidden, propagated)


def _window_colors(window: Window[SegmentedFrame]) -> Sequence[HiddenColors | None]:
    """What other frames of a window show where the object is hidden."""
    frames = [entry.frame for entry in window.items]
    maps = [frame.depth for frame in frames if frame.depth is not None]
    return propagated_colors(
        np.stack([frame.rgb for frame in frames]),
        np.stack([frame.modal for frame in frames]),
        np.stack([entry.amodal for entry in window.items]),
        np.stack(maps) if len(maps) == len(frames) else None,
    )
