"""Several objects of a stream: rows of one network call, and each object gets to the bit what it gets alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.config import MASK_FILTERS
from amodal_diffusion.pipelines.completer import (
    AmodalCompleter,
    CompletionConfig,
    FrameInput,
    ObjectStream,
)
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.pipelines.object_streams import join_results
from amodal_diffusion.pipelines.occlusion_intervals import OcclusionInterval, OcclusionIntervals
from amodal_diffusion.pipelines.preprocessing import clip_frames
from amodal_diffusion.types import AmodalResult, VideoClip
from tests.factories import moving_square

FRAMES = 10
SMALL = {"height": 8, "width": 16, "num_inference_steps": 1}  # seconds of many rows
RGB = moving_square(FRAMES).rgb


def intervals(*runs: tuple[int, int]) -> OcclusionIntervals:
    return OcclusionIntervals(FRAMES, tuple(OcclusionInterval(start, stop, ("asked for",)) for start, stop in runs))


def streams() -> list[ObjectStream]:
    """Objects that differ in what is known of them; windows have 4 frames and share one."""
    return [
        ObjectStream(),
        ObjectStream(intervals((0, 1), (8, 9))),
        ObjectStream(done=5),
        ObjectStream(intervals((2, 4)), done=2),
        ObjectStream(intervals()),
        ObjectStream(done=FRAMES),
    ]


def object_frames(*, with_depth: bool | Sequence[bool], known: Sequence[int] = ()) -> list[list[FrameInput]]:
    """Frames of as many objects: squares of other sizes at other places of one clip.

    Args:
        with_depth: whether objects have it.
        known: objects whose amodal masks are known.
    """
    depth = np.random.default_rng(1).random((FRAMES, 24, 40), dtype=np.float32)
    count = len(streams())
    flags = [with_depth] * count if isinstance(with_depth, bool) else list(with_depth)
    found = []
    for number, flag in enumerate(flags):
        modal = np.roll(moving_square(FRAMES).modal_mask, 2 * number, axis=1)
        modal[:, :, 10 + 3 * number : 14 + 3 * number] = False
        amodal = np.roll(modal, 2, axis=2) | modal if number in known else None
        found.append(list(clip_frames(VideoClip(RGB, modal), depth if flag else None, amodal)))
    return found


def together(
    completer: AmodalCompleter, entries: Sequence[Sequence[FrameInput]], objects: Sequence[ObjectStream],
    config: CompletionConfig,
) -> list[list[AmodalResult]]:  # fmt: skip
    """Results of each object."""
    results: list[list[AmodalResult]] = [[] for _ in objects]
    for place, result in completer.stream_objects(zip(*entries, strict=True), objects, config, seed=3):
        results[place].append(result)
    return results


def assert_equal(one: Sequence[AmodalResult], other: Sequence[AmodalResult]) -> None:
    """The same to the bit, frame by frame."""
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        for name in ("amodal_mask", "amodal_rgb", "rgba", "samples"):
            values = getattr(first, name), getattr(second, name)
            assert (values[0] is None) == (values[1] is None)
            assert values[0] is None or np.array_equal(*values)


@contextmanager
def rows_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """Stage and rows of each call of a pipeline, filled in as they come."""
    rows: list[tuple[str, int]] = []
    call = ConditionedVideoPipeline.__call__

    def counted(self: ConditionedVideoPipeline, modal: Any, *args: Any, **options: Any) -> Any:
        rows.append((str(self.stage), len(modal)))
        return call(self, modal, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ConditionedVideoPipeline, "__call__", counted)
        yield rows


@pytest.mark.parametrize(
    "with_depth", [pytest.param(False, marks=pytest.mark.slow), True, [True, False, False, True, True, False]]
)
def test_objects_of_a_clip_get_together_what_they_get_alone(
    completer: AmodalCompleter, with_depth: bool | list[bool]
) -> None:
    config = completer.config(guidance_scale=1.5, mask_filters=MASK_FILTERS, **SMALL)
    entries, objects = object_frames(with_depth=with_depth), streams()
    batch = together(completer, entries, objects, config)
    for place, alone in enumerate(streams()):
        (single,) = together(completer, entries[place : place + 1], [alone], config)
        assert len(single) == FRAMES - alone.done
        assert_equal(batch[place], single)
        assert objects[place].statistics.removed == alone.statistics.removed


@pytest.mark.slow  # through the command: tests/commands/test_object_batch.py
def test_samples_and_color_propagation_of_several_objects_are_those_of_each(completer: AmodalCompleter) -> None:
    config = completer.config(samples=2, color_propagation=True, **SMALL, tta=2)
    entries, objects = object_frames(with_depth=True)[:3], streams()[:3]
    batch = together(completer, entries, objects, config)
    for place, alone in enumerate(streams()[:3]):
        (single,) = together(completer, entries[place : place + 1], [alone], config)
        assert_equal(batch[place], single)
        found, expected = objects[place].statistics, alone.statistics
        assert (found.hidden, found.propagated) == (expected.hidden, expected.propagated)
    assert sum(entry.statistics.propagated for entry in objects) > 0


def test_done_frames_are_left_out_and_those_that_follow_are_the_same(completer: AmodalCompleter) -> None:
    config = completer.config(color_propagation=True, **SMALL)
    (entries,) = object_frames(with_depth=True)[:1]
    (whole,) = together(completer, [entries], [ObjectStream()], config)
    amodal = [result.amodal_mask[0] for result in whole]
    for done in (1, 4, 7, FRAMES):
        # an earlier run has given the amodal masks of its frames
        again = [
            FrameInput(frame.rgb, frame.modal, frame.depth, amodal[number] if number < done else None, frame.center)
            for number, frame in enumerate(entries)
        ]
        (rest,) = together(completer, [again], [ObjectStream(done=done)], config)
        assert_equal(rest, whole[done:])


def test_no_window_of_done_frames_alone_is_sampled(completer: AmodalCompleter, monkeypatch: pytest.MonkeyPatch) -> None:
    (entries,) = object_frames(with_depth=False, known=[0])[:1]
    with rows_of(monkeypatch) as rows:
        together(completer, [entries], [ObjectStream(done=4)], completer.config(**SMALL))
        assert rows == [("content_completion", 1)] * 2  # of the windows at 0, 3 and 6
        rows.clear()
        assert together(completer, [entries], [ObjectStream(done=FRAMES)], completer.config(**SMALL)) == [[]]
        assert rows == []


def test_the_windows_of_all_objects_are_rows_of_one_call(
    completer: AmodalCompleter, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = object_frames(with_depth=False)[:3]
    with rows_of(monkeypatch) as rows:
        together(completer, entries, [ObjectStream() for _ in entries], completer.config(**SMALL))
    for stage in STAGES:
        assert [count for name, count in rows if name == stage] == [3, 3, 3]  # windows at 0, 3, 6
    mixed = object_frames(with_depth=[True, False, True, False, False, False])[:3]
    with rows_of(monkeypatch) as rows:
        together(completer, mixed, [ObjectStream() for _ in mixed], completer.config(**SMALL))
    assert [count for name, count in rows if name == STAGES[0]] == [2, 1] * 3  # with a guide and without
    assert [count for name, count in rows if name == STAGES[1]] == [3] * 3


def test_results_of_each_object_come_in_order_and_do_not_wait_for_the_end(completer: AmodalCompleter) -> None:
    entries = object_frames(with_depth=False)[:2]
    objects = [ObjectStream(), ObjectStream(intervals((0, 2)))]
    read = 0

    def frames() -> Iterator[tuple[FrameInput, ...]]:
        nonlocal read
        for pair in zip(*entries, strict=True):
            read += 1
            yield pair

    given, ahead = [0, 0], [0, 0]
    for place, result in completer.stream_objects(frames(), objects, completer.config(**SMALL)):
        frame = entries[place][given[place]]
        assert result.rgba is not None
        assert np.array_equal(result.rgba[0][frame.modal][:, :3], frame.rgb[frame.modal])  # that very frame's
        given[place] += 1
        ahead[place] = max(ahead[place], read - given[place])
    assert given == [FRAMES, FRAMES]
    assert max(ahead) <= 10  # two windows of 4 in each stage, less what they share


def test_time_is_counted_for_each_object_and_stage(completer: AmodalCompleter) -> None:
    entries, objects = object_frames(with_depth=False)[:2], [ObjectStream(), ObjectStream()]
    together(completer, entries, objects, completer.config(**SMALL))
    first, second = (entry.statistics.seconds for entry in objects)
    assert first == pytest.approx(second)  # they share every call
    assert all(first[stage] > 0 for stage in STAGES)


def test_masks_alone_respect_done_too(masks_only: AmodalCompleter) -> None:
    config = masks_only.config(samples=2, **SMALL)
    entries, objects = object_frames(with_depth=False), streams()
    batch = together(masks_only, entries, objects, config)
    for place, entry in enumerate(streams()):
        (whole,) = together(masks_only, entries[place : place + 1], [ObjectStream(entry.intervals)], config)
        assert_equal(batch[place], whole[entry.done :])
        assert all(result.rgba is None for result in batch[place])


def test_joined_results_are_a_clips(completer: AmodalCompleter) -> None:
    clip = VideoClip(RGB, moving_square(FRAMES).modal_mask)
    config = completer.config(samples=2, **SMALL)
    (results,) = together(completer, [list(clip_frames(clip))], [ObjectStream()], config)
    assert_equal([join_results(results)], [completer(clip, config, seed=3)])
    without = completer(clip, completer.config(**SMALL), seed=3)
    assert without.samples is None


@pytest.mark.parametrize("count", [1, 3])
def test_every_frame_has_one_entry_an_object(completer: AmodalCompleter, count: int) -> None:
    entries = object_frames(with_depth=False)[:count]
    with pytest.raises(ValueError, match="argument"):
        together(completer, entries, [ObjectStream(), ObjectStream()], completer.config(**SMALL))


def test_sizes_are_those_of_the_first_frame_of_any_object(completer: AmodalCompleter) -> None:
    first, other = (list(clip_frames(moving_square(2, 24, width))) for width in (40, 42))
    with pytest.raises(InputError, match=r"frame 0: rgb is \[24, 42\], expected \[24, 40\]"):
        together(completer, [first, other], [ObjectStream(), ObjectStream()], completer.config(**SMALL))
