"""One stage over a stream of frames, window by window: frames come out in order as soon as they are final."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amodal_diffusion.models.checkpoint import SamplingDefaults
from amodal_diffusion.models.latents import spatial_factor
from amodal_diffusion.models.presets import Preset, apply_preset
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.conditioned_video import ConditionedVideoPipeline
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.copies import Copies
from amodal_diffusion.pipelines.decision import best_threshold
from amodal_diffusion.pipelines.guards import Guardian
from amodal_diffusion.pipelines.spans import Spans
from amodal_diffusion.pipelines.views import mean_score
from amodal_diffusion.types import AmodalResult, BoolArray, FloatArray, InputError, UInt8Array
from amodal_diffusion.video.focus import CloseUp, Focus
from amodal_diffusion.video.frames import Letterbox, depth_to_unit, mask_to_unit, to_uint8, to_unit
from amodal_diffusion.video.masks import compose_rgba, cut_out_on_white
from amodal_diffusion.video.tracking.looking import View, look_with_others
from amodal_diffusion.video.windows import Window, blend_segments

STAGE_KEYS = {"amodal_segmentation": 0, "content_completion": 1}


@dataclass(frozen=True)
class FrameInput:
    """One frame of a stream.

    Attributes:
        rgb: uint8 ``[H, W, 3]``.
        modal: visible part of the object, bool ``[H, W]``; may be empty.
        depth: float32 ``[H, W]`` in [-1, 1], nearer is larger, already scaled over the whole clip; None for none.
        amodal: the whole object if it is known already, bool ``[H, W]``; stage 1 then leaves this frame alone.
        focus: where the object is, from :func:`~amodal_diffusion.video.focus.follow` over the whole clip; a model
            that looks closely (``sampling.zoom``) needs it.
    """

    rgb: UInt8Array
    modal: BoolArray
    depth: FloatArray | None = None
    amodal: BoolArray | None = None
    focus: Focus | None = None


@dataclass(frozen=True)
class MaskedFrame:
    """A frame whose amodal mask is final.

    Attributes:
        frame: as it came in.
        amodal: the whole object, bool ``[H, W]``; contains the modal mask.
        samples: several answers, bool ``[K, H, W]``; None where there is one.
    """

    frame: FrameInput
    amodal: BoolArray
    samples: BoolArray | None = None


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is sampled.

    Attributes:
        sampling: size, steps and window of the stage.
        seed: initial noise of a frame depends on it and on the frame's number alone, so windows agree where they
            overlap.
        samples: answers, each from noise of its own; the first is the same however many there are.
        spans: where the object can be hidden; the network sees no more than these and some frames around them. It sees
            all when None.
        done: first frames whose results are there already; they come with their whole masks, no window of them alone
            is sampled, and stage 2 gives nothing for them.
    """

    sampling: SamplingDefaults
    seed: int
    samples: int = 1
    spans: Spans | None = None
    done: int = 0

    @property
    def overlap(self) -> int:
        """Frames that neighbouring windows share: a quarter."""
        return self.sampling.num_frames // 4

    @property
    def segments(self) -> list[tuple[int, int]] | None:
        """The parts of the stream that the network sees; None for all of it."""
        return None if self.spans is None else self.spans.segments(self.sampling.num_frames, self.overlap)

    def wanted(self, start: int, stop: int) -> tuple[int, int]:
        """The part of a window whose frames can differ from what is visible; ends where it starts if there is none."""
        return (start, stop) if self.spans is None else self.spans.around(start, stop)

    def look(self, frame: FrameInput, values: Tensor, pad_value: float | Literal["edge"]) -> Tensor:
        """Bring pixels of a frame, ``[1, C, H, W]``, to the size that the model works at: whole, or a close-up."""
        return self.view(frame).apply(values, pad_value)

    def view(self, frame: FrameInput) -> View:
        """How the model looks at a frame: at the whole of it, or at the object closely."""
        return self._close_up(frame) or self._letterbox(frame)

    def put_back(self, frame: FrameInput, values: Tensor, *, outside: float) -> Tensor:
        """Bring what the model made, ``[1, C, h, w]``, back to the frame's size and place."""
        close_up = self._close_up(frame)
        return close_up.undo(values, outside=outside) if close_up else self._letterbox(frame).undo(values)

    def cell(self, frame: FrameInput) -> int:
        """Pixels of a frame, a side, that are one pixel of what the model sees, at least 1."""
        close_up = self._close_up(frame)
        shown = max(frame.rgb.shape[:2]) if close_up is None else close_up.height
        return max(1, round(shown / max(self.sampling.height, self.sampling.width)))

    def _letterbox(self, frame: FrameInput) -> Letterbox:
        height, width = frame.rgb.shape[:2]
        return Letterbox((height, width), (self.sampling.height, self.sampling.width))

    def _close_up(self, frame: FrameInput) -> CloseUp | None:
        if self.sampling.zoom is None:
            return None
        if frame.focus is None:
            raise InputError(
                "focus: this model looks closely at the object, so every frame needs its focus; see follow()"
            )
        height, width = frame.rgb.shape[:2]
        target = (self.sampling.height, self.sampling.width)
        return CloseUp.at(frame.focus, (height, width), target, zoom=self.sampling.zoom)


def choose_sampling(
    pipeline: ConditionedVideoPipeline, chosen: Mapping[str, Any], *, preset: Preset
) -> SamplingDefaults:
    """A preset of the checkpoint with the caller's choices in its place.

    Args:
        pipeline: of the stage.
        chosen: fields of :class:`SamplingDefaults` by name.
        preset: see :func:`~amodal_diffusion.models.presets.apply_preset`.

    Raises:
        InputError: if there is no such preset, a choice cannot be, or the VAE does not divide height or width.
    """
    sampling = replace(apply_preset(preset, pipeline.sampling, pipeline.presets), **chosen)
    factor = spatial_factor(pipeline.vae)
    for name in ("height", "width"):
        value = getattr(sampling, name)
        if value < factor or value % factor:
            raise InputError(f"{name}: expected a multiple of {factor}, got {value}")
    return sampling


def mark_free(frames: Iterable[FrameInput], spans: Spans) -> Iterator[FrameInput]:
    """Tell frames in which nothing can be hidden that what is visible is the whole object.

    Raises:
        InputError: if there are more or fewer frames than in the clip that the spans are of.
    """
    doubts, count = spans.doubtful(), 0
    for frame in frames:
        doubtful = next(doubts, None)
        count += 1
        if doubtful is None:
            raise InputError(f"spans: expected those of the clip, got those of {spans.frames} frames for more")
        yield frame if doubtful else replace(frame, amodal=frame.modal)
    if count < spans.frames:
        raise InputError(f"spans: expected those of the clip, got those of {spans.frames} frames for {count}")


def given_masks(frames: Iterable[FrameInput]) -> Iterator[MaskedFrame]:
    """Take the amodal masks that came with the frames.

    Raises:
        InputError: at the first frame without one.
    """
    for index, frame in enumerate(frames):
        if frame.amodal is None:
            raise InputError(
                f"frame {index}: stage 1 is not loaded, so every frame needs its amodal mask; load it or give masks"
            )
        yield MaskedFrame(frame, frame.amodal | frame.modal)


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
        modal, guide = _stage_1_conditions(window.items, settings)
        sample = partial(_sample, pipeline, settings=settings, start=window.start)
        scores = mean_score(sample, modal, guide, views=sampling.views)  # [F, K, H, W]
        if guide is not None and sampling.other_frames_weight > 0:
            shown = (modal[0] + 1).clamp(max=1.0)  # [F, 1, H, W]: 1 where visible, else the share of the others
            scores = (scores + sampling.other_frames_weight * shown) / (1 + sampling.other_frames_weight)
        return scores

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
            hidden = (free > _threshold(frame, free, sampling)) & ~frame.modal
            hidden = guardian.guard(number, frame, hidden, free, reach=settings.cell(frame))
            answers.append(hidden | frame.modal)
        guardian.forget(number)
        samples = np.stack(answers)
        yield MaskedFrame(frame, _consensus(samples), samples if settings.samples > 1 else None)


def _stage_1_conditions(frames: Sequence[FrameInput], settings: StreamSettings) -> tuple[Tensor, Tensor | None]:
    """Visible mask and depth of a window as the model sees them, float ``[1, F, 1, h, w]``; depth if all have it."""
    modal = torch.cat([_seen(frame, frame.modal, settings) for frame in frames])  # [F, 1, h, w]
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


def samples_of(entry: MaskedFrame) -> BoolArray | None:
    """The answers of a frame as a stream of one, bool ``[K, 1, H, W]``."""
    return None if entry.samples is None else entry.samples[:, None]


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
        guide.append(_seen(entry.frame, entry.amodal, settings))
    return _sample(pipeline, torch.cat(modal)[None], torch.cat(guide)[None], settings, start=window.start)[0]


def _consensus(samples: BoolArray) -> BoolArray:
    """What most answers ``[K, H, W]`` have; where they are even the first decides."""
    votes = 2 * samples.sum(axis=0)
    majority: BoolArray = (votes > len(samples)) | ((votes == len(samples)) & samples[0])
    return majority


def _threshold(frame: FrameInput, free: FloatArray, sampling: SamplingDefaults) -> float:
    """Above which score a pixel is taken for the object's."""
    if sampling.visible_weight is None:
        return sampling.mask_threshold
    likely = np.clip(free[~frame.modal], 0.0, 1.0)
    visible = int(frame.modal.sum())
    return best_threshold(likely, visible, weight=sampling.visible_weight, least=sampling.mask_threshold)


def _free(frame: FrameInput, score: Tensor, settings: StreamSettings) -> FloatArray:
    """How surely the object goes on beyond what is visible, float32 ``[H, W]``, 1 for certain.

    Scaling blurs the edge of the visible part over its neighbours. A pixel is judged by the share of it that the
    visible part leaves free, or that blur would become a rim around every object.
    """
    whole = settings.put_back(frame, score[None, None].cpu(), outside=0.0)[0, 0]  # [H, W]
    visible = settings.put_back(frame, (_seen(frame, frame.modal, settings) + 1) / 2, outside=0.0)[0, 0]
    share: FloatArray = ((whole - visible) / (1 - visible).clamp(min=1e-6)).numpy()
    return share


def _seen(frame: FrameInput, mask: BoolArray, settings: StreamSettings) -> Tensor:
    """A mask as the model sees it: float ``[1, 1, h, w]``, -1 outside and 1 inside."""
    inside = settings.look(frame, mask_to_unit(mask[None]), -1.0) >= 0
    return inside.float() * 2 - 1


def _depth_seen(frame: FrameInput, depth: FloatArray, settings: StreamSettings) -> Tensor:
    """Depth as the model sees it: float ``[1, 1, h, w]``."""
    return settings.look(frame, torch.from_numpy(depth)[None, None], "edge")


def _sample(
    pipeline: ConditionedVideoPipeline,
    modal: Tensor,
    guide: Tensor | None,
    settings: StreamSettings,
    *,
    start: int,
    backwards: bool = False,
) -> Tensor:
    """Run one window that begins at frame ``start``; float32 ``[K, F, 3, H, W]`` in [-1, 1], one a sample.

    Where the window runs backwards, each frame keeps its own initial noise. What lies before and after all frames in
    which the object can be hidden is there to know its shape by, and 0.
    """
    sampling = settings.sampling
    factor = spatial_factor(pipeline.vae)
    cells = (4, sampling.height // factor, sampling.width // factor)
    key = STAGE_KEYS[pipeline.stage or "amodal_segmentation"]
    count, frames = settings.samples, range(start, start + modal.shape[1])[:: -1 if backwards else 1]
    noise = [
        torch.randn(cells, generator=_generator(settings.seed, key, frame, *_answer(number)))
        for number in range(count)
        for frame in frames
    ]
    first, last = (place - start for place in settings.wanted(start, start + len(frames)))
    decoded = slice(len(frames) - last, len(frames) - first) if backwards else slice(first, last)
    video = pipeline(
        modal.expand(count, -1, -1, -1, -1),
        None if guide is None else guide.expand(count, -1, -1, -1, -1),
        sampling=sampling,
        generator=[_generator(settings.seed, key, start, 1, *_answer(number)) for number in range(count)],
        latents=torch.stack(noise).unflatten(0, (count, len(frames))),
        decoded=decoded,
    ).video
    return functional.pad(video.cpu(), (0, 0, 0, 0, 0, 0, decoded.start, len(frames) - decoded.stop))


def _answer(number: int) -> tuple[int, ...]:
    """What tells the random numbers of an answer from those of the first, which has nothing."""
    return (2, number) if number else ()


def _generator(*keys: int) -> torch.Generator:
    """Randomness that depends on the keys alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(keys).generate_state(1)[0]))
