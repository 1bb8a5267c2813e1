"""Windows cover a stream without gaps, and blending gives constant videos back unchanged."""

from __future__ import annotations

import pytest
import torch

from amodal_diffusion.frames.windows import OverlapBlender, Window, blend_windows, sliding_windows
from amodal_diffusion.types import InputError


@pytest.mark.parametrize(
    ("length", "starts"), [(0, []), (3, [0]), (5, [0]), (6, [0, 1]), (8, [0, 3]), (9, [0, 3, 4]), (14, [0, 3, 6, 9])]
)
def test_windows_are_full_and_the_last_is_moved_back(length: int, starts: list[int]) -> None:
    windows = list(sliding_windows(range(length), size=5, overlap=2))
    assert [window.start for window in windows] == starts
    for window in windows:
        assert window.items == tuple(range(window.start, min(window.start + 5, length)))


def test_no_more_is_read_than_a_window_needs() -> None:
    read = []
    windows = sliding_windows((read.append(i) or i for i in range(100)), size=5, overlap=2)
    next(windows)
    assert len(read) == 5
    next(windows)
    assert len(read) == 8


def test_overlap_fades_from_one_window_to_the_next() -> None:
    def predict(window: Window[int]) -> torch.Tensor:
        return torch.full((len(window.items),), float(window.start))

    blended = dict(blend_windows(range(8), predict, size=5, overlap=2))
    assert list(blended) == list(range(8))
    expected = torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0, 3.0])
    torch.testing.assert_close(torch.stack(list(blended.values())), expected)


def test_frames_come_out_before_the_stream_ends() -> None:
    def endless() -> object:
        while True:
            yield 0

    stream = blend_windows(endless(), lambda window: torch.zeros(len(window.items), 2), size=4, overlap=1)
    assert [next(stream)[1].shape for _ in range(50)] == [(2,)] * 50


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
        list(sliding_windows(range(3), size=size, overlap=overlap))
