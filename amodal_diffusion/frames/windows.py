"""Overlapping windows of a stream of frames, and blending of their results into one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from amodal_diffusion.basics import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Window(Generic[T]):
    """Consecutive items of a stream.

    Attributes:
        start: index of the first item in the stream.
        items: the items.
    """

    start: int
    items: tuple[T, ...]


class OverlapBlender:
    """Joins the values of overlapping windows, with a linear cross-fade over shared frames."""

    def __init__(self) -> None:
        """Start without any window."""
        self._start = 0
        self._pending: Tensor | None = None  # [n, ...], frames from _start on that a later window may still change

    def add(self, start: int, values: Tensor) -> Tensor:
        """Add the values of a window.

        Args:
            start: index of the window's first frame in the stream; not before that of the previous window.
            values: float ``[n, ...]``, one entry per frame.

        Returns:
            float ``[m, ...]``: the frames before ``start`` that are now final.

        Raises:
            RuntimeError: if windows are out of order or leave a gap.
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
        """Return the remaining frames, ``[m, ...]``.

        Raises:
            RuntimeError: if no window was added.
        """
        if self._pending is None:
            raise RuntimeError("no window was added")
        final, self._pending = self._pending, None
        return final


class WindowStream(Generic[T]):
    """Cuts a stream of items into overlapping windows, and returns each item with the blended value of its windows.

    Items are pushed one by one; only those that open windows need are held. Every window is full and shares ``overlap``
    items with the previous one. The last window of a segment is moved back to be full, so it shares more. A segment
    shorter than ``size`` is one short window.

    Args:
        size: items per window, at least 1.
        overlap: items shared by neighboring windows, from 0 to ``size - 1``.
        segments: parts of the stream that have windows, each as first item and one past the last, in order and
            disjoint;
            items outside are returned without a value. None for the whole stream.

    Raises:
        InputError: if ``size`` or ``overlap`` is out of range.
    """

    def __init__(self, *, size: int, overlap: int, segments: Sequence[tuple[int, int]] | None = None) -> None:
        if size < 1 or not 0 <= overlap < size:
            raise InputError(f"window: expected size >= 1 and 0 <= overlap < size, got size {size}, overlap {overlap}")
        self._size, self._overlap = size, overlap
        self._segments = deque([(0, None)] if segments is None else segments)
        self._count = 0  # items pushed
        self._ended = False
        self._items: deque[T] = deque(maxlen=size)  # latest items of the open segment
        self._fresh = 0  # how many of them are in no window yet
        self._first = True  # whether the segment has no window yet
        self._blender = OverlapBlender()
        self._waiting: deque[T] = deque()  # items without a final value
        self._final: deque[tuple[T, Tensor | None]] = deque()

    def push(self, item: T) -> Window[T] | None:
        """Add the next item.

        Returns:
            the window that the item completes, if any; pass its values to :meth:`add` before the next item.
        """
        number, self._count = self._count, self._count + 1
        if not self._segments or number < self._segments[0][0]:
            self._final.append((item, None))
            return None
        self._items.append(item)
        self._waiting.append(item)
        self._fresh += 1
        full = self._fresh == (self._size if self._first else self._size - self._overlap)
        return self._window() if full or number + 1 == self._segments[0][1] else None

    def finish(self) -> Window[T] | None:
        """End the stream.

        Returns:
            the last window, if some items are in no window yet; pass its values to :meth:`add`.
        """
        self._ended = True
        if self._fresh:
            return self._window()
        self._close()
        return None

    def add(self, window: Window[T], values: Tensor) -> None:
        """Add the values of a window, float ``[n, ...]``, one per item; values cross-fade where windows overlap."""
        self._release(self._blender.add(window.start, values))
        if self._ended or window.start + len(window.items) == self._segments[0][1]:
            self._close()

    def take(self) -> list[tuple[T, Tensor | None]]:
        """Items, in order, whose values are final, each with its value; the value is None outside segments."""
        final, self._final = list(self._final), deque()
        return final

    def _window(self) -> Window[T]:
        self._fresh, self._first = 0, False
        return Window(self._count - len(self._items), tuple(self._items))

    def _close(self) -> None:
        """End the open segment, if there is one."""
        if self._waiting:
            self._release(self._blender.finish())
        self._items.clear()
        self._first, self._blender = True, OverlapBlender()
        if self._segments:
            self._segments.popleft()

    def _release(self, values: Tensor) -> None:
        for value in values:
            self._final.append((self._waiting.popleft(), value))
