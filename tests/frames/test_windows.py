"""Windows cover a stream without gaps, cross-fade where they overlap, and hold no more than the open ones need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.windows import OverlapBlender, Window, WindowStream

Segments = Sequence[tuple[int, int]]


def value(start: int, item: int) -> float:
    """What the window from ``start`` says of an item; other windows say something else."""
    return float(np.sin(12.9898 * item + 78.233 * start))


def starts_of(length: int, size: int, overlap: int) -> list[int]:
    """Full windows in even steps, the last moved back; by arithmetic."""
    starts = [0] if length else []
    while starts and starts[-1] + size < length:
        starts.append(min(starts[-1] + size - overlap, length - size))
    return starts


def reference(
    length: int, size: int, overlap: int, segments: Segments
) -> tuple[list[tuple[int, tuple[int, ...]]], list[float | None]]:
    """All windows and all values of a stream that is a list of its own numbers."""
    windows: list[tuple[int, tuple[int, ...]]] = []
    values: list[float | None] = [None] * length
    for first, stop in segments:
        last = min(stop, length)
        for start in (first + step for step in starts_of(max(0, last - first), size, overlap)):
            items = tuple(range(start, min(start + size, last)))
            windows.append((start, items))
            shared = sum(values[item] is not None for item in items)
            for place, item in enumerate(items):
                old, new = values[item], value(start, item)
                values[item] = new if old is None else old + (new - old) * ((place + 1) / (shared + 1))
    return windows, values


def drive(
    stream: WindowStream[int], items: Iterable[int]
) -> tuple[list[tuple[int, tuple[int, ...]]], list[tuple[int, float | None]], list[int]]:
    """Push items through; windows, final items with their values, and how many items were open after each push."""
    windows: list[tuple[int, tuple[int, ...]]] = []
    final: list[tuple[int, float | None]] = []
    waiting: list[int] = []

    def answer(window: Window[int] | None) -> None:
        if window is not None:
            windows.append((window.start, window.items))
            values = [value(window.start, item) for item in window.items]
            stream.add(window, torch.tensor(values, dtype=torch.float64))
        final.extend((item, None if found is None else float(found)) for item, found in stream.take())

    for count, item in enumerate(items, start=1):
        answer(stream.push(item))
        waiting.append(count - len(final))
    answer(stream.finish())
    return windows, final, waiting


def random_segments(rng: np.random.Generator, length: int) -> Segments:
    """Parts of a stream, in order and apart; the last may end after the stream."""
    ends = np.sort(rng.choice(np.arange(length + 4), size=2 * int(rng.integers(0, 4)), replace=False)).tolist()
    return list(zip(ends[::2], ends[1::2], strict=True))


@pytest.mark.parametrize("with_segments", [False, True])
def test_a_stream_gives_what_lists_give(with_segments: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        length, size = int(rng.integers(0, 40)), int(rng.integers(1, 10))
        overlap = int(rng.integers(0, size))
        segments = random_segments(rng, length + 6) if with_segments else None
        stream: WindowStream[int] = WindowStream(size=size, overlap=overlap, segments=segments)
        windows, final, waiting = drive(stream, range(length))
        expected = reference(length, size, overlap, [(0, length)] if segments is None else segments)
        assert windows == expected[0]
        assert final == list(enumerate(expected[1]))
        assert max(waiting, default=0) < 2 * size


@pytest.mark.parametrize(
    ("length", "starts"), [(0, []), (3, [0]), (5, [0]), (6, [0, 1]), (8, [0, 3]), (9, [0, 3, 4]), (14, [0, 3, 6, 9])]
)
def test_windows_are_full_and_the_last_is_moved_back(length: int, starts: list[int]) -> None:
    windows, _, _ = drive(WindowStream(size=5, overlap=2), range(length))
    assert windows == [(start, tuple(range(start, min(start + 5, length)))) for start in starts]


def test_overlap_fades_from_one_window_to_the_next() -> None:
    stream: WindowStream[int] = WindowStream(size=5, overlap=2)
    for item in range(8):
        window = stream.push(item)
        if window is not None:
            stream.add(window, torch.full((5,), float(window.start)))
    assert stream.finish() is None
    blended = [(item, float(found)) for item, found in stream.take() if found is not None]
    assert blended == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 1.0), (4, 2.0), (5, 3.0), (6, 3.0), (7, 3.0)]


def test_a_window_comes_with_the_item_that_completes_it() -> None:
    stream: WindowStream[int] = WindowStream(size=5, overlap=2)
    complete = []
    for item in range(20):
        window = stream.push(item)
        if window is not None:
            complete.append(item)
            stream.add(window, torch.zeros(5))
    assert complete == [4, 7, 10, 13, 16, 19]
    assert stream.finish() is None


def test_items_outside_segments_come_back_at_once() -> None:
    stream: WindowStream[str] = WindowStream(size=3, overlap=1, segments=[(2, 4)])
    assert stream.push("a") is None
    assert stream.take() == [("a", None)]
    assert stream.take() == []
    stream.push("b")
    assert stream.take() == [("b", None)]
    stream.push("c")
    window = stream.push("d")
    assert window == Window(2, ("c", "d"))  # shorter than a window, and complete before the stream ends
    stream.add(window, torch.tensor([1.0, 2.0]))
    assert [(item, float(found)) for item, found in stream.take() if found is not None] == [("c", 1.0), ("d", 2.0)]
    stream.push("e")
    assert stream.take() == [("e", None)]


def test_values_of_any_shape_are_blended() -> None:
    stream: WindowStream[int] = WindowStream(size=4, overlap=1)
    shapes = []
    for item in range(50):
        window = stream.push(item)
        if window is not None:
            stream.add(window, torch.zeros(4, 2, 3))
        shapes += [found.shape for _, found in stream.take() if found is not None]
    assert shapes == [(2, 3)] * len(shapes)
    assert len(shapes) > 44


def test_out_of_order_windows_are_refused() -> None:
    blender = OverlapBlender()
    blender.add(0, torch.zeros(4))
    with pytest.raises(RuntimeError, match="does not follow"):
        blender.add(5, torch.zeros(4))
    with pytest.raises(RuntimeError, match="no window"):
        OverlapBlender().finish()


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_impossible_windows_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(InputError, match="window: expected"):
        WindowStream(size=size, overlap=overlap)
