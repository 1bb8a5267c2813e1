"""Stage 1 on one page, modal mask + depth -> amodal mask: preprocess, sample, blend windows, postprocess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.frames.masks import shrunk_mask
from amodal_diffusion.frames.transforms import CPU
from amodal_diffusion.frames.windows import Window, WindowStream
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline, WindowRequest, sample_windows
from amodal_diffusion.pipelines.occlusion_intervals import OcclusionIntervals, occluded_part, open_windows
from amodal_diffusion.pipelines.postprocessing import (
    ObjectStatistics,
    OtherFrames,
    consensus,
    mask_score,
    object_statistics,
    postprocess_mask,
    score_levels,
    score_of_levels,
)
from amodal_diffusion.pipelines.preprocessing import FrameInput, frame_device, preprocess_segmentation
from amodal_diffusion.propagation.mask_propagation import propagate_masks
from amodal_diffusion.types import BoolArray, FloatArray

TTA_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (0,), (0, -1))
"""Passes of test-time augmentation, in their order: as it is, mirrored, both also backwards in time."""


class AmodalSegmentationPipeline(ConditionedVideoPipeline):
    """``modal`` is the modal mask, -1 outside and 1 inside; ``guide`` is depth in [-1, 1], nearer is larger."""

    stage: ClassVar[Stage | None] = "amodal_segmentation"


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame whose amodal mask is final.

    Attributes:
        frame: as it came in.
        amodal: the whole object, bool ``[H, W]``; contains the modal mask.
        samples: predictions from different noise, bool ``[K, H, W]``; None where there is one.
        removed: pixels that each mask filter removed, over all samples.
        score: what the mask was cut from, see `AmodalResult.score`, float32 ``[height, width]``; None without stage 1.
        rim: visible pixels that are painted all the same, bool ``[H, W]``; None where the modal mask is not shrunk.
    """

    frame: FrameInput
    amodal: BoolArray
    samples: BoolArray | None = None
    removed: Counter[str] = field(default_factory=Counter)
    score: FloatArray | None = None
    rim: BoolArray | None = None

    def shrunk(self, pixels: int) -> SegmentedFrame:
        """The same with an eroded modal mask, for stage 2; the amodal mask stays."""
        if not pixels:
            return self
        modal = shrunk_mask(self.frame.modal, pixels, inside=self.frame.inside)
        return replace(self, frame=replace(self.frame, modal=modal), rim=self.frame.modal & ~modal)


@dataclass
class _Object:
    """What stage 1 holds of one object between windows.

    Attributes:
        windows: frames without a final score.
        intervals: frames in which the object can be occluded; all when None.
        statistics: for the mask filters, over all windows so far.
        depths: depth of the object, by number of the frame, in frames that are not final.
        others: with mask propagation, what other frames show, by number of the frame, in frames that are not final.
        finished: frames that are final.
    """

    windows: WindowStream[FrameInput]
    intervals: OcclusionIntervals | None
    statistics: ObjectStatistics = field(default_factory=ObjectStatistics)
    depths: dict[int, float | None] = field(default_factory=dict)
    others: dict[int, OtherFrames] = field(default_factory=dict)
    finished: int = 0


class SegmentationStream:
    """Stage 1 over the frames of a shot, of one or several objects; memory is that of the open windows.

    Args:
        pipeline: stage 1; None if the score or the amodal mask of every frame is known.
        config: how it is sampled.
        intervals: for each object, the frames in which it can be occluded; the network sees these and some around them.
            It sees all frames when None.
        seed: the same seed gives the same masks.
        first: number in the stream of the shot's first frame, on which the noise depends; all else counts from it.
    """

    def __init__(
        self,
        pipeline: AmodalSegmentationPipeline | None,
        config: SamplingConfig,
        intervals: Sequence[OcclusionIntervals | None],
        *,
        seed: int,
        first: int = 0,
    ) -> None:
        self._pipeline, self._config, self._seed, self._first = pipeline, config, seed, first
        self._device = CPU if pipeline is None else frame_device(pipeline.unet)
        self._objects = [_Object(open_windows(config, found), found) for found in intervals]

    def push(self, frames: Sequence[FrameInput] | None) -> list[list[SegmentedFrame]]:
        """Take the next frame of each object, and the windows that it completes through the stage.

        Args:
            frames: one an object; None ends the shot.

        Returns:
            for each object, the frames that are final now, in order.

        Raises:
            InputError: if a known score is of another size than the network's, or a frame needs the network and it is
                not loaded.
        """
        config = self._config
        if frames is None:
            windows = [tracked.windows.finish() for tracked in self._objects]
        else:
            windows = [tracked.windows.push(frame) for tracked, frame in zip(self._objects, frames, strict=True)]
        pushed = zip(self._objects, windows, strict=True)
        complete = [(tracked, window) for tracked, window in pushed if window is not None]

        # 1. Preprocess; a window whose scores or masks are all known needs no network
        requests: dict[int, WindowRequest] = {}
        for number, (tracked, window) in enumerate(complete):
            tracked.statistics, depths = object_statistics(window.items, tracked.statistics)
            tracked.depths.update(enumerate(depths, start=window.start))
            if config.beyond.mask_propagation:
                _propagate(tracked, window)
            if any(frame.amodal is None and frame.score is None for frame in window.items):
                modal, guide = preprocess_segmentation(window.items, config, self._device)
                decoded = occluded_part(tracked.intervals, window)
                requests[number] = WindowRequest(self._first + window.start, modal, guide, decoded)

        # 2. Sample: the windows of all objects are rows of one network call
        scores: dict[int, Tensor] = {}
        if requests and self._pipeline is None:
            raise InputError("stage 1 is not loaded, so every frame needs its amodal mask or its score; give them")
        if self._pipeline is not None:
            sampled = predict_scores(self._pipeline, list(requests.values()), config, seed=self._seed)
            scores = dict(zip(requests, sampled, strict=True))

        # 3. Blend where windows overlap
        for number, (tracked, window) in enumerate(complete):
            nothing = torch.zeros(len(window.items), config.samples, config.height, config.width)
            tracked.windows.add(window, scores.get(number, nothing))

        # 4. Postprocess the frames that are final
        return [
            [self._postprocess(tracked, frame, score) for frame, score in tracked.windows.take()]
            for tracked in self._objects
        ]

    def _postprocess(self, tracked: _Object, frame: FrameInput, scores: Tensor | None) -> SegmentedFrame:
        """Cut the masks of one frame from its scores ``[K, h, w]``."""
        depth = tracked.depths.pop(tracked.finished, None)
        others = tracked.others.pop(tracked.finished, None)
        tracked.finished += 1
        if scores is None or frame.amodal is not None:
            known = frame.modal if frame.amodal is None else frame.amodal | frame.modal
            samples = np.stack([known] * self._config.samples) if self._config.samples > 1 else None
            nothing = np.zeros((self._config.height, self._config.width), np.float32)
            return SegmentedFrame(frame, known, samples, score=nothing)
        # Scores are what a file of 16 bits has of them, so that a mask that is cut from the file is the same
        kept = score_of_levels(score_levels(scores.numpy())) if frame.score is None else self._known_score(frame)
        masks, removed = [], Counter[str]()
        for score in torch.from_numpy(kept):
            mask, counts = postprocess_mask(
                score, frame, self._config, ObjectStatistics(tracked.statistics.largest_visible, depth),
                others=others, device=self._device,
            )  # fmt: skip
            masks.append(mask)
            removed.update(counts)
        samples = np.stack(masks)
        return SegmentedFrame(
            frame,
            consensus(samples),
            samples if len(samples) > 1 else None,
            removed,
            kept.mean(axis=0) if len(kept) > 1 else kept[0],
        )

    def _known_score(self, frame: FrameInput) -> FloatArray:
        """The score that came with a frame, for each sample, ``[K, h, w]``."""
        size = (self._config.height, self._config.width)
        if frame.score is None or frame.score.shape != size:
            found = None if frame.score is None else list(frame.score.shape)
            raise InputError(f"score: expected {list(size)}, the size of the network, got {found}")
        return np.stack([frame.score] * self._config.samples)


def predict_scores(
    pipeline: AmodalSegmentationPipeline, requests: Sequence[WindowRequest], config: SamplingConfig, *, seed: int
) -> list[Tensor]:
    """Scores of windows: the mean over test-time augmentation.

    Args:
        pipeline: stage 1.
        requests: the windows.
        config: says how many passes.
        seed: as for :func:`~amodal_diffusion.pipelines.denoising.sample_windows`.

    Returns:
        for each window, float32 ``[F, K, h, w]`` in [0, 1] on the CPU.
    """
    passes = []  # [tta][window] of [K, F, h, w]
    for flip in TTA_FLIPS[: config.beyond.tta]:
        seen = sample_windows(pipeline, requests, config, seed=seed, flip=flip, keep=mask_score)
        passes.append(seen)
    return [torch.stack(same).mean(dim=0).transpose(0, 1) for same in zip(*passes, strict=True)]


def _propagate(tracked: _Object, window: Window[FrameInput]) -> None:
    """Find what other frames of a window show; of two windows of a frame, the one that is relied on more counts."""
    frames = window.items
    maps = [frame.depth for frame in frames if frame.depth is not None]
    found = propagate_masks(
        np.stack([frame.rgb for frame in frames]),
        np.stack([frame.modal for frame in frames]),
        np.stack(maps) if len(maps) == len(frames) else None,
    )
    for number, (share, weight) in enumerate(zip(found.share, found.weight, strict=True), start=window.start):
        before = tracked.others.get(number)
        now = OtherFrames(share, weight)
        tracked.others[number] = now if before is None else before.merged(now)


def given_masks(frame: FrameInput, number: int) -> SegmentedFrame:
    """Take the amodal mask that came with a frame, where stage 1 is not loaded.

    Args:
        frame: the frame.
        number: of the frame, for the error.

    Raises:
        InputError: if it has none.
    """
    if frame.amodal is None:
        raise InputError(
            f"frame {number}: stage 1 is not loaded, so every frame needs its amodal mask; load it or give masks"
        )
    return SegmentedFrame(frame, frame.amodal | frame.modal)
