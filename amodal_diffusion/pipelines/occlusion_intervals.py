"""Occlusion intervals: the frames of a clip in which an object can be occluded at all, by masks, depth and border."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, repeat
from typing import TypeVar

import numpy as np
from scipy import ndimage

from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.frames.cuts import shots_of
from amodal_diffusion.frames.masks import object_depth
from amodal_diffusion.frames.windows import Window, WindowStream
from amodal_diffusion.pipelines.postprocessing import FARTHER_QUANTILE
from amodal_diffusion.pipelines.preprocessing import FrameInput
from amodal_diffusion.types import BoolArray, FloatArray

T = TypeVar("T")

CONTEXT = 8
"""Frames before and after an interval that the networks see with it, to know the shape; chosen on validation scenes."""
NOT_VISIBLE = "not visible"
BORDER = "image border"
NEARER = "nearer neighbor"
OTHER = "another object beside it"
SMALLER = "smaller than elsewhere"
SHAPE = "another shape than where it is seen best"
STILL = "no motion that would tell"
GIVEN = "hidden in the whole masks"
ASKED = "all frames asked for"

_SIDE = 24  # pixels, the longer side of the shapes that are compared
_LEAST_MOTION = 0.25  # of the object's extent; what stands still behind something that stands still never shows it
_SAME_SIZE = 0.97  # of the area, above which a frame is not called smaller
_SQUARE = np.ones((2, 2), dtype=np.bool_)
_NEIGHBORS = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True)
class IntervalFrame:
    """Evidence of one frame.

    Attributes:
        modal: visible part of the object, bool ``[H, W]``.
        depth: nearer is larger, float32 ``[H, W]``; None for none. Constant depth counts as none.
        others: visible parts of the other objects together, bool ``[H, W]``; None where they are not known.
        whole: the whole object, bool ``[H, W]``, which leaves nothing to find out; None where it is not known.
    """

    modal: BoolArray
    depth: FloatArray | None = None
    others: BoolArray | None = None
    whole: BoolArray | None = None


@dataclass(frozen=True)
class OcclusionInterval:
    """Frames in a row in which the object can be hidden.

    Attributes:
        start: first frame.
        stop: one past the last.
        reasons: why, each once, in the order of the frames.
    """

    start: int
    stop: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class OcclusionIntervals:
    """Where in a clip an object can be hidden.

    Attributes:
        frames: of the clip.
        runs: in order; frames of none of them show the object whole.
        cuts: first frames of new shots, which no run crosses.
    """

    frames: int
    runs: tuple[OcclusionInterval, ...]
    cuts: tuple[int, ...] = ()

    @classmethod
    def whole(cls, frames: int) -> OcclusionIntervals:
        """One interval: the whole clip, where nothing is skipped."""
        return cls(frames, (OcclusionInterval(0, frames, (ASKED,)),))

    @classmethod
    def of_shots(cls, visible: Sequence[bool], cuts: Sequence[int]) -> OcclusionIntervals | None:
        """All shots that show the object, where nothing else is skipped; None where that is the whole clip.

        Args:
            visible: whether a frame shows any of the object, for each frame in order.
            cuts: first frames of new shots.
        """
        shots = shots_of(len(visible), cuts)
        shown = [(start, stop) for start, stop in shots if any(visible[start:stop])]
        if len(shown) == len(shots):
            return None
        return cls(len(visible), tuple(OcclusionInterval(*shot, (ASKED,)) for shot in shown), tuple(cuts))

    def shot(self, first: int) -> OcclusionIntervals:
        """Those of one shot, whose frames count from 0.

        Args:
            first: first frame of the shot.
        """
        start, stop = next(shot for shot in shots_of(self.frames, self.cuts) if shot[0] == first)
        runs = (run for run in self.runs if start <= run.start < stop)
        return OcclusionIntervals(
            stop - start, tuple(replace(run, start=run.start - start, stop=run.stop - start) for run in runs)
        )

    def candidate_frames(self) -> Iterator[bool]:
        """Whether the object can be hidden, for each frame in order."""
        number = 0
        for run in self.runs:
            yield from repeat(False, run.start - number)
            yield from repeat(True, run.stop - run.start)
            number = run.stop
        yield from repeat(False, self.frames - number)

    def segments(self, size: int, overlap: int) -> list[tuple[int, int]]:
        """The frames that the networks have to see: intervals and frames around them.

        Args:
            size: of a window; every segment is cut into full ones, as far as the clip has the frames.
            overlap: of neighboring windows.

        Returns:
            first frames, and one past the last, of parts that do not touch, in order.
        """
        near = [(max(0, run.start - CONTEXT), min(self.frames, run.stop + CONTEXT)) for run in self.runs]
        grown = []
        for start, stop in _joined(near):
            # A last window is full by sharing more with the one before; new frames cost no more than shared ones.
            steps = -(-max(0, stop - start - size) // (size - overlap))
            last = min(self.frames, start + size + steps * (size - overlap))
            grown.append((max(0, last - size - steps * (size - overlap)), last))
        return _joined(grown)

    def around(self, start: int, stop: int) -> tuple[int, int]:
        """The part of a run of frames that holds all of its frames in which the object can be hidden.

        Args:
            start: first frame.
            stop: one past the last.

        Returns:
            first frame and one past the last; the same number where there are none.
        """
        met = [run for run in self.runs if run.start < stop and start < run.stop]
        return (max(start, met[0].start), min(stop, met[-1].stop)) if met else (start, start)


def find_occlusion_intervals(
    frames: Iterable[IntervalFrame], *, beyond: bool = False, cuts: Sequence[int] = ()
) -> OcclusionIntervals:
    """Find where an object can be hidden; in all other frames its visible part is the whole of it.

    With depth a frame is no candidate if no pixel beside the visible part is nearer than the object, or if the frame
    shows nothing and the nearest frames that show the object are no candidates and have the object at the border.
    Without depth a frame is no candidate only if the visible part does not touch the border and, moved and scaled, has
    the shape of the frame that shows most, and that shape is seen at places apart; so an object that turns or bends has
    few such frames. Only frames of one shot are compared, and a shot that never shows the object has no candidates.

    Args:
        frames: in order, read once; without depth a shape of 72 bytes is kept of each, with it nothing.
        beyond: the part outside the frame is wanted too (outpainting), so that the border counts as an occluder.
        cuts: first frames of new shots.
    """
    finder = IntervalFinder(beyond=beyond, cuts=cuts)
    for frame in frames:
        finder.add(frame)
    return finder.finish()


class IntervalFinder:
    """The rules of :func:`find_occlusion_intervals`, for frames that come one at a time, as of several objects at once.

    Args:
        beyond: as for that function.
        cuts: as for that function.
    """

    def __init__(self, *, beyond: bool = False, cuts: Sequence[int] = ()) -> None:
        self._beyond, self._cuts, self._shots = beyond, tuple(cuts), [_Shot()]
        self._frames = 0

    def add(self, frame: IntervalFrame) -> None:
        """Take the next frame."""
        if self._frames in self._cuts:
            self._shots.append(_Shot())
        self._shots[-1].add(frame, beyond=self._beyond)
        self._frames += 1

    def finish(self) -> OcclusionIntervals:
        """The intervals of all frames so far."""
        runs: list[OcclusionInterval] = []
        first = 0
        for shot in self._shots:
            runs += _runs(shot.finish(), first=first)
            first += len(shot.reasons)
        return OcclusionIntervals(self._frames, tuple(runs), self._cuts)


@dataclass
class _Shot:
    """Why the object can be hidden in each frame of a shot.

    Attributes:
        reasons: of each frame by itself.
        shapes: by number of the frame, where there is no depth and no reason.
        cut: frames with depth and without a reason in which the object lies at the border.
    """

    reasons: list[str | None] = field(default_factory=list)
    shapes: dict[int, _Shape] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)

    def add(self, frame: IntervalFrame, *, beyond: bool) -> None:
        if frame.whole is not None:
            self.reasons.append(GIVEN if (frame.whole & ~frame.modal).any() else None)
            return
        number = len(self.reasons)
        depth = None if frame.depth is None or frame.depth.min() == frame.depth.max() else frame.depth
        reason = _reason(replace(frame, depth=depth), beyond=beyond)
        self.reasons.append(reason)
        if reason is None and depth is None:
            self.shapes[number] = _Shape.of(frame.modal)
        elif reason is None and _is_cut(frame.modal):
            self.cut.add(number)

    def finish(self) -> list[str | None]:
        """The reasons by all frames of the shot."""
        reasons = list(self.reasons)
        if all(reason == NOT_VISIBLE for reason in reasons):
            return [None] * len(reasons)
        for number, doubt in _shape_reasons(self.shapes):
            reasons[number] = doubt
        for start, stop in _absences(reasons):
            if all(number in self.cut for number in (start - 1, stop) if 0 <= number < len(reasons)):
                reasons[start:stop] = [None] * (stop - start)
        return reasons


def intervals_of_masks(masks: Iterable[tuple[BoolArray, BoolArray]], *, cuts: Sequence[int] = ()) -> OcclusionIntervals:
    """Where an object is hidden whose whole masks are known.

    Args:
        masks: visible part and whole object of each frame, bool ``[H, W]`` each.
        cuts: first frames of new shots.
    """
    return find_occlusion_intervals((IntervalFrame(modal, whole=whole) for modal, whole in masks), cuts=cuts)


def clip_intervals(frames: Sequence[FrameInput], *, skip_unoccluded: bool) -> OcclusionIntervals | None:
    """Which frames of a whole clip the networks have to see; None for all.

    Args:
        frames: of one object, in order.
        skip_unoccluded: leave out frames in which the object cannot be occluded; else shots that never show it alone.
    """
    cuts = [number for number, frame in enumerate(frames) if frame.starts_shot]
    if not skip_unoccluded:
        masks = (frame.modal if frame.amodal is None else frame.modal | frame.amodal for frame in frames)
        return OcclusionIntervals.of_shots([bool(mask.any()) for mask in masks], cuts)
    known = [(frame.modal, frame.amodal) for frame in frames if frame.amodal is not None]
    if len(known) == len(frames):
        return intervals_of_masks(known, cuts=cuts)
    return find_occlusion_intervals((IntervalFrame(frame.modal, frame.depth) for frame in frames), cuts=cuts)


def open_windows(config: SamplingConfig, intervals: OcclusionIntervals | None) -> WindowStream[T]:
    """The windows of a stream, over the parts of it that the network has to see.

    Args:
        config: length of a window.
        intervals: of the stream; all of it when None.
    """
    segments = None if intervals is None else intervals.segments(config.num_frames, config.overlap)
    return WindowStream(size=config.num_frames, overlap=config.overlap, segments=segments)


def occluded_part(intervals: OcclusionIntervals | None, window: Window[T]) -> tuple[int, int]:
    """The part of a window whose frames can differ from what is visible.

    Args:
        intervals: of the stream; all of it when None.
        window: of the stream.

    Returns:
        first frame of the window, and one past the last; the same number where there are none.
    """
    start, stop = window.start, window.start + len(window.items)
    first, last = (start, stop) if intervals is None else intervals.around(start, stop)
    return first - start, last - start


@dataclass(frozen=True)
class _Shape:
    """The visible part of a frame, cut out and scaled to a common size."""

    bits: bytes
    height: int
    width: int
    area: int
    center: tuple[float, float]
    extent: int

    @classmethod
    def of(cls, modal: BoolArray) -> _Shape:
        rows, columns = ndimage.find_objects(modal.astype(np.uint8))[0]
        part = modal[rows, columns]
        extent = max(part.shape)
        height, width = (max(1, round(side * _SIDE / extent)) for side in part.shape)
        samples = np.ix_(_centers(part.shape[0], height), _centers(part.shape[1], width))
        return cls(
            bits=np.packbits(part[samples]).tobytes(),
            height=height,
            width=width,
            area=int(part.sum()),
            center=((rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2),
            extent=extent,
        )

    @property
    def mask(self) -> BoolArray:
        bits = np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), count=self.height * self.width)
        return bits.reshape(self.height, self.width).astype(np.bool_)

    def equals(self, other: _Shape) -> bool:
        """Whether they differ by no more than a line of pixels here and there."""
        if abs(self.height - other.height) > 1 or abs(self.width - other.width) > 1:
            return False
        height, width = min(self.height, other.height), min(self.width, other.width)
        differ = self.mask[:height, :width] ^ other.mask[:height, :width]
        return not ndimage.binary_opening(differ, _SQUARE).any()


def _reason(frame: IntervalFrame, *, beyond: bool) -> str | None:
    """Why the object can be hidden in a frame, as far as the frame alone tells."""
    modal, depth = frame.modal, frame.depth
    if not modal.any():
        return NOT_VISIBLE
    if (beyond or depth is None) and _is_cut(modal):
        return BORDER
    beside = ndimage.binary_dilation(modal, _NEIGHBORS) & ~modal
    if depth is not None:
        return NEARER if (depth[beside] > object_depth(modal, depth, FARTHER_QUANTILE)).any() else None
    return OTHER if frame.others is not None and frame.others[beside].any() else None


def _is_cut(modal: BoolArray) -> bool:
    """Whether a visible part lies at the image border."""
    return any(line.any() for line in (modal[0], modal[-1], modal[:, 0], modal[:, -1]))


def _absences(reasons: Sequence[str | None]) -> list[tuple[int, int]]:
    """Runs of frames that show nothing of the object, between or beside frames that do."""
    runs = _runs([reason if reason == NOT_VISIBLE else None for reason in reasons])
    return [(run.start, run.stop) for run in runs if run.stop - run.start < len(reasons)]


def _joined(segments: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Put segments, in the order of their starts, together where they touch."""
    found: list[tuple[int, int]] = []
    for start, stop in segments:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def _shape_reasons(shapes: dict[int, _Shape]) -> Iterator[tuple[int, str]]:
    """The frames, of those without depth or any other reason, whose shape is not surely the whole one."""
    if not shapes:
        return
    best = max(shapes.values(), key=lambda shape: shape.area)
    same = {number for number, shape in shapes.items() if shape.equals(best)}
    centers = np.asarray([shapes[number].center for number in same])
    if np.ptp(centers, axis=0).max() < _LEAST_MOTION * best.extent:
        yield from ((number, STILL) for number in shapes)
        return
    for number, shape in shapes.items():
        if number not in same:
            yield number, SMALLER if shape.area < _SAME_SIZE * best.area else SHAPE


def _runs(reasons: Sequence[str | None], *, first: int = 0) -> tuple[OcclusionInterval, ...]:
    """Put neighboring frames with reasons together; ``first`` is the number of the first frame."""
    intervals, start = [], first
    for candidate_frames, run in groupby(reasons, key=lambda reason: reason is not None):
        found = list(run)
        if candidate_frames:
            kinds = dict.fromkeys(reason for reason in found if reason is not None)
            intervals.append(OcclusionInterval(start, start + len(found), tuple(kinds)))
        start += len(found)
    return tuple(intervals)


def _centers(source: int, target: int) -> np.ndarray:
    """Where the pixels of a scaled line have their centers in the line that it comes from."""
    return ((np.arange(target) + 0.5) * source / target).astype(np.int64)
