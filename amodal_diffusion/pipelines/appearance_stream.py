"""Stage 2 over a stream of frames, window by window, and the layers made of its pixels and the input's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.frames.masks import compose_rgba, cut_out_on_white
from amodal_diffusion.frames.transforms import to_uint8, to_unit
from amodal_diffusion.frames.windows import Window, blend_segments
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.copies import Copies
from amodal_diffusion.pipelines.streams import MaskedFrame, StreamSettings, samples_of
from amodal_diffusion.pipelines.window_sampling import sample_window
from amodal_diffusion.types import AmodalResult


def stream_appearance(
    pipeline: ContentCompletionPipeline,
    masked: Iterable[MaskedFrame],
    settings: StreamSettings,
    copies: Copies | None = None,
) -> Iterator[AmodalResult]:
    """Stage 2, and the layers made of its pixels and the input's.

    Args:
        pipeline: stage 2.
        masked: in order, of one size.
        settings: of the stream.
        copies: of this stream; what the network paints stays as it is when None.

    Yields:
        one frame each.
    """
    blended = blend_segments(
        masked,
        partial(_painted, pipeline, settings, copies),
        size=settings.sampling.num_frames,
        overlap=settings.overlap,
        segments=settings.segments,
    )
    for number, (entry, painted) in enumerate(blended):
        if number < settings.done:
            if copies is not None:
                copies.forget(number)
            continue
        rgb, modal, amodal = entry.frame.rgb[None], entry.frame.modal[None], entry.amodal[None]
        whole = rgb
        if painted is not None:
            full = to_uint8(settings.put_back(entry.frame, painted[None].cpu(), outside=1.0))  # [1, H, W, 3]
            if copies is not None:
                full = copies.lay_over(number, full[0], entry.amodal & ~entry.frame.modal)[None]
            whole = np.where(modal[..., None], rgb, full)
        yield AmodalResult(
            amodal_mask=amodal,
            amodal_rgb=cut_out_on_white(whole, amodal),
            rgba=compose_rgba(rgb, modal, whole, amodal),
            samples=samples_of(entry),
        )


def _painted(
    pipeline: ContentCompletionPipeline,
    settings: StreamSettings,
    copies: Copies | None,
    window: Window[MaskedFrame],
) -> Tensor:
    """What stage 2 paints of a window, float ``[F, 3, h, w]`` in [-1, 1]; 0 where that does not count."""
    sampling = settings.sampling
    stop = window.start + len(window.items)
    nothing = torch.zeros(len(window.items), 3, sampling.height, sampling.width)
    if stop <= settings.done:
        return nothing
    if copies is not None:
        frames, wholes = [entry.frame for entry in window.items], [entry.amodal for entry in window.items]
        if not copies.look_ahead(window.start, frames, wholes):
            return nothing
    first, last = settings.wanted(window.start, stop)
    if first == last:
        return nothing
    modal, guide = [], []
    for entry in window.items:
        visible = cut_out_on_white(entry.frame.rgb[None], entry.frame.modal[None])
        modal.append(settings.look(entry.frame, to_unit(visible), 1.0))
        guide.append(settings.look_at_mask(entry.frame, entry.amodal))
    return sample_window(pipeline, torch.cat(modal)[None], torch.cat(guide)[None], settings, start=window.start)[0]
