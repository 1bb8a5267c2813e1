"""The frames of several objects as they stream through the stages: checked, cut into shots, their time counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeVar

import numpy as np

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import MASK_FILTERS
from amodal_diffusion.pipelines.occlusion_intervals import OcclusionIntervals
from amodal_diffusion.pipelines.preprocessing import FrameInput
from amodal_diffusion.types import AmodalResult, FloatArray, UInt8Array

_ROUNDED = 1e-3
"""How far scaled depth may be outside [-1, 1]."""

T = TypeVar("T")
Array = TypeVar("Array", UInt8Array, FloatArray)


@dataclass
class StreamStatistics:
    """Counts that go up while a stream is read.

    Attributes:
        seconds: time spent, by stage; windows that share a network call share its time.
        removed: hidden pixels that each mask filter removed from the frames that came out.
        hidden: hidden pixels that were painted, counted with color propagation alone.
        propagated: how many of these took their color from other frames; half a color counts half.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    removed: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(MASK_FILTERS, 0)))
    hidden: float = 0.0
    propagated: float = 0.0


@dataclass
class ObjectStream:
    """One object of a stream.

    Attributes:
        intervals: frames of the whole stream in which the object can be occluded; others are left alone. All when None.
            Their cuts are those that the frames mark.
        done: first frames whose results an earlier run has given; each comes with the amodal mask that was found. What
            follows is the same to the bit, and no window of these frames alone is sampled.
        statistics: counts of this object.
    """

    intervals: OcclusionIntervals | None = None
    done: int = 0
    statistics: StreamStatistics = field(default_factory=StreamStatistics)


def checked_frames(
    frames: Iterable[Sequence[FrameInput]], objects: Sequence[ObjectStream]
) -> Iterator[Sequence[FrameInput]]:
    """Check frames as they come; outside an object's intervals its modal mask becomes the amodal one.

    Args:
        frames: in order; of each frame one entry an object.
        objects: with the intervals, if known.

    Yields:
        the entries of each frame.

    Raises:
        InputError: if frames differ in size, or the intervals are of another clip.
    """
    candidates = [None if entry.intervals is None else entry.intervals.candidate_frames() for entry in objects]
    size: tuple[int, ...] | None = None
    count = 0
    for entries in frames:
        _check_cuts(entries, objects, count)
        marked = []
        for frame, candidate in zip(entries, candidates, strict=True):
            size = frame.rgb.shape[:2] if size is None else size
            _check_size(frame, size, count)
            occluded = True if candidate is None else next(candidate, None)
            if occluded is None:
                raise InputError(f"intervals: expected those of the clip, got those of {count} frames for more")
            marked.append(frame if occluded else replace(frame, amodal=frame.modal))
        count += 1
        yield marked
    for entry in objects:
        if entry.intervals is not None and count < entry.intervals.frames:
            raise InputError(
                f"intervals: expected those of the clip, got those of {entry.intervals.frames} frames for {count}"
            )


def checked_inputs(frames: Iterable[FrameInput]) -> Iterator[FrameInput]:
    """Check frames of a caller, as they come.

    Args:
        frames: of one object, in order.

    Raises:
        InputError: if an array is not as `FrameInput` says, or some frames have depth and others have none.
    """
    scaled: bool | None = None
    for number, frame in enumerate(frames):
        if not isinstance(frame, FrameInput):
            raise InputError(f"frames: expected FrameInput(rgb, modal, ...), got {type(frame).__name__}")
        _check_arrays(frame, number)
        if frame.amodal is None:
            scaled = frame.depth is not None if scaled is None else scaled
            if scaled != (frame.depth is not None):
                there = "none, and frames before have it" if scaled else "given, and frames before have none"
                raise InputError(f"frame {number}: depth: {there}; give depth in all frames or in none")
        yield frame


def _check_arrays(frame: FrameInput, number: int) -> None:
    wanted = {
        "rgb": (frame.rgb, np.uint8, 3, "uint8 [H, W, 3]"),
        "modal": (frame.modal, np.bool_, 2, "bool [H, W]"),
        "amodal": (frame.amodal, np.bool_, 2, "bool [H, W]"),
        "depth": (frame.depth, np.floating, 2, "float [H, W]"),
    }
    for name, (array, dtype, axes, expected) in wanted.items():
        if array is None and name in ("amodal", "depth"):
            continue
        if not isinstance(array, np.ndarray):
            raise InputError(f"frame {number}: {name}: expected a numpy array, {expected}, got {type(array).__name__}")
        if (
            array.ndim != axes
            or 0 in array.shape
            or not np.issubdtype(array.dtype, dtype)
            or (axes == 3 and array.shape[2] != 3)
        ):
            raise InputError(f"frame {number}: {name}: expected {expected}, got {array.dtype} {list(array.shape)}")
    if frame.depth is not None and not np.abs(frame.depth).max() <= 1 + _ROUNDED:
        low, high = float(frame.depth.min()), float(frame.depth.max())
        raise InputError(
            f"frame {number}: depth: expected values in [-1, 1], scaled over the whole shot, got {low:g} to {high:g}; "
            "scale it, or give the whole clip to a call, which does"
        )


def _check_size(frame: FrameInput, size: tuple[int, ...], number: int) -> None:
    """Raise an InputError if a part of a frame has another size than the first frame."""
    parts = {"rgb": frame.rgb, "modal": frame.modal, "depth": frame.depth, "amodal": frame.amodal}
    for name, array in parts.items():
        if array is not None and array.shape[:2] != size:
            found = list(array.shape[:2])
            raise InputError(f"frame {number}: {name} is {found}, expected {list(size)} as in frame 0")


def _check_cuts(entries: Sequence[FrameInput], objects: Sequence[ObjectStream], number: int) -> None:
    """Raise an InputError if a frame starts a shot and intervals say otherwise."""
    starts = number > 0 and any(frame.starts_shot for frame in entries)
    for entry in objects:
        if entry.intervals is not None and starts != (number in entry.intervals.cuts):
            found = "starts a shot" if starts else "starts none"
            raise InputError(f"intervals: expected those of the clip, got other cuts: frame {number} {found}")


def shots(frames: Iterable[Sequence[FrameInput]]) -> Iterator[tuple[int, Iterator[Sequence[FrameInput]]]]:
    """Divide frames at the hard cuts that they mark.

    Args:
        frames: in order; of each frame one entry an object.

    Yields:
        number of the shot's first frame, and the frames of the shot, which must be read before the next shot.
    """
    first = 0

    def shot_of(numbered: tuple[int, Sequence[FrameInput]]) -> int:
        nonlocal first
        number, entries = numbered
        if any(frame.starts_shot for frame in entries):
            first = number
        return first

    for start, shot in groupby(enumerate(frames), key=shot_of):
        yield start, (entries for _, entries in shot)


def then_none(items: Iterable[T]) -> Iterator[T | None]:
    """Items, and None after the last."""
    yield from items
    yield None


def timed(items: Iterator[T], objects: Sequence[ObjectStream], stage: Stage) -> Iterator[T]:
    """Pass items on, and add the seconds that making them takes to a stage of the objects."""
    while True:
        started = time.perf_counter()
        item = next(items, None)
        spend(objects, stage, time.perf_counter() - started)
        if item is None:
            return
        yield item


def spend(objects: Sequence[ObjectStream], stage: Stage, seconds: float) -> None:
    """Add seconds to a stage of the objects, in equal parts, as all objects share every network call."""
    for entry in objects:
        entry.statistics.seconds[stage] += seconds / len(objects)


def join_results(results: Sequence[AmodalResult]) -> AmodalResult:
    """Put the results of frames of one object together.

    Args:
        results: in order, at least one.
    """
    samples = [result.samples for result in results if result.samples is not None]
    return AmodalResult(
        amodal_mask=np.concatenate([result.amodal_mask for result in results]),
        amodal_rgb=_concatenate([result.amodal_rgb for result in results]),
        rgba=_concatenate([result.rgba for result in results]),
        samples=np.concatenate(samples, axis=1) if samples else None,
        score=_concatenate([result.score for result in results]),
    )


def _concatenate(parts: list[Array | None]) -> Array | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None
