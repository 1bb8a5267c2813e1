"""A stream of frames of one object: what goes in, how it is looked at, and what comes between the stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from amodal_diffusion.frames.crop import CloseUp, Focus
from amodal_diffusion.frames.transforms import Letterbox, mask_to_unit
from amodal_diffusion.models.checkpoint import SamplingDefaults
from amodal_diffusion.pipelines.network_calls import Ask, AskAlone
from amodal_diffusion.pipelines.occlusion_intervals import Spans
from amodal_diffusion.propagation.mask_prior import View
from amodal_diffusion.types import BoolArray, FloatArray, InputError, UInt8Array


@dataclass(frozen=True)
class FrameInput:
    """One frame of a stream.

    Attributes:
        rgb: uint8 ``[H, W, 3]``.
        modal: visible part of the object, bool ``[H, W]``; may be empty.
        depth: float32 ``[H, W]`` in [-1, 1], nearer is larger, already scaled over the whole clip; None for none.
        amodal: the whole object if it is known already, bool ``[H, W]``; stage 1 then leaves this frame alone.
        focus: where the object is, from :func:`~amodal_diffusion.frames.crop.follow` over the whole clip; a model
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
        ask: what runs its windows.
    """

    sampling: SamplingDefaults
    seed: int
    samples: int = 1
    spans: Spans | None = None
    done: int = 0
    ask: Ask = field(default_factory=AskAlone)

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

    def look_at_mask(self, frame: FrameInput, mask: BoolArray) -> Tensor:
        """A mask of a frame, bool ``[H, W]``, as the model sees it: float ``[1, 1, h, w]``, -1 outside and 1 inside."""
        inside = self.look(frame, mask_to_unit(mask[None]), -1.0) >= 0
        return inside.float() * 2 - 1

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


def same_size(frames: Iterable[FrameInput]) -> Iterator[FrameInput]:
    """Pass frames through; raise an InputError at the first that differs in size from the first one."""
    size: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        size = frame.rgb.shape[:2] if size is None else size
        parts = {"rgb": frame.rgb, "modal": frame.modal, "depth": frame.depth, "amodal": frame.amodal}
        for name, array in parts.items():
            if array is not None and array.shape[:2] != size:
                found = list(array.shape[:2])
                raise InputError(f"frame {index}: {name} is {found}, expected {list(size)} as in frame 0")
        yield frame


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


def samples_of(entry: MaskedFrame) -> BoolArray | None:
    """The answers of a frame as a stream of one, bool ``[K, 1, H, W]``."""
    return None if entry.samples is None else entry.samples[:, None]
