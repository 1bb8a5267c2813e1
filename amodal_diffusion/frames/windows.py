"""Cut a stream of frames into overlapping windows, and blend the windows' results back into one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import torch
from torch import Tensor

from amodal_diffusion.types import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Window(Generic[T]):
    """A run of neighbouring items of a stream.

    Attributes:
        start: index in the stream of the first item.
        items: the items.
    """

    start: int
    items: tuple[T, ...]


def sliding_windows(stream: Iterable[T], *, size: int, overlap: int) -> Iterator[Window[T]]:
    """Cut a stream of any length, reading no further ahead than a window needs.

    Every window is full, and shares ``overlap`` items with the one before; the last is moved back to be full and
    so shares more. A stream shorter than ``size`` is one short window; an empty one is none.

    Args:
        stream: read once, in order.
        size: items of a window, at least 1.
        overlap: items shared by neighbours, from 0 to ``size - 1``.

    Raises:
        InputError: if ``size`` or ``overlap`` is out of range.
    """
    if size < 1 or not 0 <= overlap < size:
        raise InputError(f"window: expected size >= 1 and 0 <= overlap < size, got size {size}, overlap {overlap}")
    source = iter(stream)
    items = tuple(islice(source, size))
    if not items:
        return
    start = 0
    while True:
        yield Window(start, items)
        fresh = tuple(islice(source, size - overlap))
        if not fresh:
            return
        items = (*items, *fresh)[-size:]
        start += len(fresh)


class OverlapBlender:
    """Join the values of overlapping windows frame by frame, cross-fading linearly where they share frames."""

    def __init__(self) -> None:
        """Start before the first window."""
        self._start = 0
        self._pending: Tensor | None = None  # [n, ...], frames from _start on that a later window may still change

    def add(self, start: int, values: Tensor) -> Tensor:
        """Take a window's values in.

        Args:
            start: index in the stream of the window's first frame; not before the last window's.
            values: float ``[n, ...]``, one entry a frame.

        Returns:
            float ``[m, ...]``: the frames before ``start``, which are final now.

        Raises:
            RuntimeError: if windows come out of order or leave a gap.
        """
        if self._pending is None:
            self._start, self._pending = start, values
            return values[:0]
        done = start - self._start
        shared = self._pending.shape[0] - done
        if done < 0 or shared < 0 or shared > values.shape[0]:
            raise RuntimeError(f"window at frame {start} does not follow the one at frame {self._start}")
        final, old = self._pending[:done], self._pending[done:]
        fade = torch.arange(1, shared + 1, device=values.device, dtype=values.dtype) / (shared + 1)
        fade = fade.reshape(-1, *[1] * (values.ndim - 1))
        blended = old + (values[:shared] - old) * fade
        self._start, self._pending = start, torch.cat([blended, values[shared:]])
        return final

    def finish(self) -> Tensor:
        """Return the frames that were still open, ``[m, ...]``; there must have been a window.

        Raises:
            RuntimeError: if no window came.
        """
        if self._pending is None:
            raise RuntimeError("no window was added")
        final, self._pending = self._pending, None
        return final


def blend_windows(
    stream: Iterable[T], predict: Callable[[Window[T]], Tensor], *, size: int, overlap: int
) -> Iterator[tuple[T, Tensor]]:
    """Predict a stream window by window and give each item back with its blended prediction.

    Args:
        stream: read once, in order.
        predict: gives float ``[n, ...]``, one entry an item of the window.
        size: items of a window, at least 1.
        overlap: items shared by neighbours, from 0 to ``size - 1``.

    Yields:
        the items in order, each with its prediction, as soon as no later window can change it.

    Raises:
        InputError: if ``size`` or ``overlap`` is out of range.
    """
    blender = OverlapBlender()
    waiting: deque[T] = deque()
    seen = 0
    for window in sliding_windows(stream, size=size, overlap=overlap):
        waiting.extend(window.items[seen - window.start :])
        seen = window.start + len(window.items)
        for value in blender.add(window.start, predict(window)):
            yield waiting.popleft(), value
    if waiting:
        for value in blender.finish():
            yield waiting.popleft(), value


def blend_segments(
    stream: Iterable[T],
    predict: Callable[[Window[T]], Tensor],
    *,
    size: int,
    overlap: int,
    segments: Sequence[tuple[int, int]] | None = None,
) -> Iterator[tuple[T, Tensor | None]]:
    """Predict parts of a stream, each by itself like :func:`blend_windows`, and pass the other items on.

    Args:
        stream: read once, in order.
        predict: gives float ``[n, ...]``, one entry an item of the window.
        size: items of a window, at least 1.
        overlap: items shared by neighbours, from 0 to ``size - 1``.
        segments: first items, and one past the last, of the parts, in order; the whole stream when None.

    Yields:
        the items in order, each with its prediction, or with None outside the parts.

    Raises:
        InputError: if ``size`` or ``overlap`` is out of range.
    """
    if segments is None:
        yield from blend_windows(stream, predict, size=size, overlap=overlap)
        return
    source, number = iter(stream), 0
    for start, stop in segments:
        for item in islice(source, start - number):
            yield item, None

        def placed(window: Window[T], start: int = start) -> Tensor:
            return predict(Window(start + window.start, window.items))

        yield from blend_windows(islice(source, stop - start), placed, size=size, overlap=overlap)
        number = stop
    for item in source:
        yield item, None
