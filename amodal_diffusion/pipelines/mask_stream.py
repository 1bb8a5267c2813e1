"""Stage 1 over a stream of frames, window by window: masks come out in order as soon as they are final."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.frames.transforms import depth_to_unit
from amodal_diffusion.frames.windows import Window, blend_segments
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.postprocessing import Guardian, hidden_part
from amodal_diffusion.pipelines.streams import FrameInput, MaskedFrame, StreamSettings
from amodal_diffusion.pipelines.views import window_scores
from amodal_diffusion.pipelines.window_sampling import sample_window
from amodal_diffusion.propagation.mask_prior import look_with_others
from amodal_diffusion.types import BoolArray, FloatArray


def stream_masks(
    pipeline: AmodalSegmentationPipeline, frames: Iterable[FrameInput], settings: StreamSettings, guardian: Guardian
) -> Iterator[MaskedFrame]:
    """Stage 1. A window uses depth if all its frames have it.

    Args:
        pipeline: stage 1.
        frames: in order, of one size.
        settings: of the stream.
        guardian: of this stream.
    """
    sampling = settings.sampling

    def predict(window: Window[FrameInput]) -> Tensor:
        guardian.look_ahead(window.start, window.items)
        if all(frame.amodal is not None for frame in window.items):
            return torch.zeros(len(window.items), settings.samples, sampling.height, sampling.width)
        modal, guide = _conditions(window.items, settings)
        sample = partial(sample_window, pipeline, settings=settings, start=window.start)
        return window_scores(sample, modal, guide, sampling=sampling)  # [F, K, H, W]

    scored = blend_segments(
        frames, predict, size=sampling.num_frames, overlap=settings.overlap, segments=settings.segments
    )
    for number, (frame, scores) in enumerate(scored):
        if scores is None or frame.amodal is not None:
            known = frame.modal if frame.amodal is None else frame.amodal | frame.modal
            guardian.forget(number)
            yield MaskedFrame(frame, known, np.stack([known] * settings.samples) if settings.samples > 1 else None)
            continue
        answers = []
        for score in scores:
            free = _free(frame, score, settings)
            hidden = hidden_part(free, frame.modal, sampling)
            hidden = guardian.guard(number, frame, hidden, free, reach=settings.cell(frame))
            answers.append(hidden | frame.modal)
        guardian.forget(number)
        samples = np.stack(answers)
        yield MaskedFrame(frame, _consensus(samples), samples if settings.samples > 1 else None)


def _conditions(frames: Sequence[FrameInput], settings: StreamSettings) -> tuple[Tensor, Tensor | None]:
    """Visible mask and depth of a window as the model sees them, float ``[1, F, 1, h, w]``; depth if all have it."""
    modal = torch.cat([settings.look_at_mask(frame, frame.modal) for frame in frames])  # [F, 1, h, w]
    depth = [_depth_seen(frame, frame.depth, settings) for frame in frames if frame.depth is not None]
    guide = torch.cat(depth) if len(depth) == len(modal) else None
    if guide is not None and settings.sampling.zoom is not None:  # scaled over what the model sees, as in training
        guide = depth_to_unit(guide[:, 0].numpy())
    if settings.sampling.other_frames:
        rgb, visible = np.stack([frame.rgb for frame in frames]), np.stack([frame.modal for frame in frames])
        maps = [frame.depth for frame in frames if frame.depth is not None]
        views = [settings.view(frame) for frame in frames]
        modal = look_with_others(rgb, visible, None if guide is None else np.stack(maps), views, modal)
    return modal[None], None if guide is None else guide[None]


def _depth_seen(frame: FrameInput, depth: FloatArray, settings: StreamSettings) -> Tensor:
    """Depth as the model sees it: float ``[1, 1, h, w]``."""
    return settings.look(frame, torch.from_numpy(depth)[None, None], "edge")


def _free(frame: FrameInput, score: Tensor, settings: StreamSettings) -> FloatArray:
    """How surely the object goes on beyond what is visible, float32 ``[H, W]``, 1 for certain.

    Scaling blurs the edge of the visible part over its neighbours. A pixel is judged by the share of it that the
    visible part leaves free, or that blur would become a rim around every object.
    """
    whole = settings.put_back(frame, score[None, None].cpu(), outside=0.0)[0, 0]  # [H, W]
    visible = settings.put_back(frame, (settings.look_at_mask(frame, frame.modal) + 1) / 2, outside=0.0)[0, 0]
    share: FloatArray = ((whole - visible) / (1 - visible).clamp(min=1e-6)).numpy()
    return share


def _consensus(samples: BoolArray) -> BoolArray:
    """What most answers ``[K, H, W]`` have; where they are even the first decides."""
    votes = 2 * samples.sum(axis=0)
    majority: BoolArray = (votes > len(samples)) | ((votes == len(samples)) & samples[0])
    return majority
