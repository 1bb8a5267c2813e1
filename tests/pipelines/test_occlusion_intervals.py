"""Frames in which an object can be occluded, and that the networks see only these and some around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.frames.windows import Window
from amodal_diffusion.pipelines import amodal_segmentation, content_completion
from amodal_diffusion.pipelines.completer import AmodalCompleter, FrameInput, ObjectStream
from amodal_diffusion.pipelines.denoising import WindowRequest, sample_windows
from amodal_diffusion.pipelines.occlusion_intervals import (
    CONTEXT,
    IntervalFrame,
    OcclusionInterval,
    OcclusionIntervals,
    find_occlusion_intervals,
    intervals_of_masks,
    occluded_part,
    open_windows,
)
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.types import BoolArray, FloatArray, VideoClip

FRAMES, HEIGHT, WIDTH = 40, 24, 96
SMALL = {"height": 8, "width": 32, "num_inference_steps": 1}
BAR = np.s_[:, 44:50]
HIDDEN = range(17, 25)  # the square's columns are 2 k to 2 k + 9


def slide(frames: int = FRAMES) -> tuple[BoolArray, BoolArray, FloatArray]:
    """A square that slides behind a bar: visible part, whole object, depth."""
    whole = np.zeros((frames, HEIGHT, WIDTH), dtype=np.bool_)
    for frame in range(frames):
        whole[frame, 6:16, 2 * frame + 2 : 2 * frame + 12] = True
    modal = whole.copy()
    modal[:, *BAR] = False
    depth = np.zeros((frames, HEIGHT, WIDTH), dtype=np.float32)
    depth[whole] = 0.5
    depth[:, *BAR] = 1.0
    return modal, whole, depth


def found(modal: BoolArray, depth: FloatArray | None = None, **options: bool) -> OcclusionIntervals:
    return find_occlusion_intervals(
        (IntervalFrame(mask, None if depth is None else depth[frame]) for frame, mask in enumerate(modal)), **options
    )


def test_depth_shows_where_something_nearer_is_beside_the_object() -> None:
    modal, whole, depth = slide()
    intervals = found(modal, depth)
    hidden = (whole & ~modal).any(axis=(1, 2))
    (run,) = intervals.runs
    assert run.reasons == ("nearer neighbor",)
    assert np.array_equal(np.flatnonzero(hidden), range(run.start + 1, run.stop - 1))  # and where the bar just touches


def test_without_depth_the_shape_where_it_is_seen_best_tells() -> None:
    modal, whole, _ = slide()
    intervals = found(modal)
    hidden = (whole & ~modal).any(axis=(1, 2))
    assert np.array_equal(list(intervals.candidate_frames()), hidden)
    assert {reason for run in intervals.runs for reason in run.reasons} == {"smaller than elsewhere"}


def test_an_object_that_stands_still_is_a_candidate_without_depth_and_none_with_it() -> None:
    modal, _, depth = (array[[0] * 6] for array in slide())
    assert found(modal).runs == (OcclusionInterval(0, 6, ("no motion that would tell",)),)
    assert found(modal, depth).runs == ()
    assert found(modal, np.zeros_like(depth)) == found(modal)  # depth that says nothing is none


def test_border_and_others_are_reasons_and_a_frame_that_shows_nothing_is_one() -> None:
    modal, _, depth = slide()
    modal, depth = modal[:16].copy(), depth[:16]
    modal[3] = False
    modal[8, :7, 18] = True
    assert found(modal, depth).runs == (OcclusionInterval(3, 4, ("not visible",)),)
    assert found(modal, depth, beyond=True).runs == (
        OcclusionInterval(3, 4, ("not visible",)),
        OcclusionInterval(8, 9, ("image border",)),
    )
    assert OcclusionInterval(8, 9, ("image border",)) in found(modal).runs
    beside = np.zeros_like(modal[0])
    beside[6:16, 22] = True
    frames = [IntervalFrame(mask, others=beside if frame == 5 else None) for frame, mask in enumerate(modal)]
    assert OcclusionInterval(5, 6, ("another object beside it",)) in find_occlusion_intervals(frames).runs


def test_given_masks_say_where_something_is_hidden() -> None:
    modal, whole, _ = slide()
    intervals = intervals_of_masks(zip(modal, whole, strict=True))
    assert np.array_equal(list(intervals.candidate_frames()), (whole & ~modal).any(axis=(1, 2)))


def test_scenes_hide_nothing_where_depth_finds_nothing() -> None:
    hidden = missed = 0
    for seed in range(4):
        scene = make_scene(seed, split="train", with_rgb=False)
        candidates = np.array(list(found(scene.target.modal, scene.depth).candidate_frames()))
        parts = (scene.target.amodal & ~scene.target.modal).sum(axis=(1, 2))
        hidden, missed = hidden + parts.sum(), missed + parts[~candidates].sum()
    assert missed < 0.002 * hidden


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(20, 30)], [(20 - CONTEXT, 12 + 28)]),  # 26 frames, two windows
        ([(20, 32)], [(20 - CONTEXT, 32 + CONTEXT)]),
        ([(0, 1)], [(0, 16)]),
        ([(49, 50)], [(34, 50)]),
        ([(10, 12), (20, 22)], [(2, 30)]),
        ([(9, 41)], [(0, 50)]),
        ([(8, 9), (33, 34)], [(0, 50)]),  # they touch when they are whole windows
        ([], []),
    ],
)
def test_segments_have_context_and_whole_windows(runs: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    intervals = OcclusionIntervals(50, tuple(OcclusionInterval(start, stop, ()) for start, stop in runs))
    assert intervals.segments(16, 4) == expected


def test_the_part_of_a_window_that_can_be_occluded() -> None:
    intervals = OcclusionIntervals(50, (OcclusionInterval(10, 12, ()), OcclusionInterval(20, 30, ())))
    assert [intervals.around(*window) for window in ((0, 16), (11, 22), (22, 26), (12, 20), (30, 40))] == [
        (10, 12), (11, 22), (22, 26), (12, 12), (30, 30)
    ]  # fmt: skip


def test_an_object_that_left_the_frame_is_not_hidden() -> None:
    modal, _, depth = slide()
    modal, depth = modal[:16].copy(), depth[:16].copy()
    modal[:4], modal[12:] = False, False
    modal[4, 6:16, 0] = True  # it comes in, and stops being seen in the middle of the frame
    assert found(modal, depth).runs == (OcclusionInterval(12, 16, ("not visible",)),)
    assert found(modal, depth, beyond=True).runs[0].start == 0
    depth[4, :, 1] = 1.0
    depth[4][modal[4]] = 0.5
    assert found(modal, depth).runs[0].start == 0  # something nearer is beside it where it comes in


@pytest.fixture(scope="module")
def clip() -> VideoClip:
    rng = np.random.default_rng(0)
    return VideoClip(rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8), slide()[0])


def frames_of(clip: VideoClip) -> list[FrameInput]:
    return [FrameInput(rgb, modal) for rgb, modal in zip(clip.rgb, clip.modal_mask, strict=True)]


def test_windows_are_opened_over_segments_and_know_their_occluded_part() -> None:
    config = SamplingConfig(num_frames=8)
    intervals = OcclusionIntervals(50, (OcclusionInterval(20, 22, ()),))
    ((first, last),) = intervals.segments(8, 2)
    windows = open_windows(config, intervals)
    for number in range(50):
        window: Window[int] | None = windows.push(number)
        if window is not None:
            windows.add(window, torch.zeros(len(window.items)))
            assert first <= window.start < last
            here = [number in range(20, 22) for number in window.items]
            start, stop = occluded_part(intervals, window)
            assert here == [start <= place < stop for place in range(len(here))]
            assert occluded_part(None, window) == (0, len(window.items))
    outside = [item for item, value in windows.take() if value is None]
    assert outside == [number for number in range(50) if not first <= number < last]


def test_networks_see_the_intervals_alone_and_other_frames_stay_as_they_are(
    completer: AmodalCompleter, clip: VideoClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watch(pipeline: Any, requests: Sequence[WindowRequest], *args: Any, **options: Any) -> Any:
        seen.extend(request.start for request in requests)
        return sample_windows(pipeline, requests, *args, **options)

    for stage in (amodal_segmentation, content_completion):
        monkeypatch.setattr(stage, "sample_windows", watch)
    depth = slide()[2]
    (run,) = found(clip.modal_mask, depth).runs
    result = completer(clip, completer.config(samples=2, skip_unoccluded=True, **SMALL), depth=depth)
    windows = len(seen)
    assert {frame for start in seen for frame in range(start, start + 4)} >= set(range(run.start, run.stop))
    assert all(start < run.stop and run.start < start + 4 for start in seen)  # no window of frames around it alone
    everywhere = completer(clip, completer.config(samples=2, **SMALL), depth=depth)
    assert len(seen) - windows > windows
    assert result.samples is not None
    assert result.samples.shape == (2, *clip.modal_mask.shape)
    assert result.rgba is not None
    for frame in range(FRAMES):
        same = np.array_equal(result.amodal_mask[frame], clip.modal_mask[frame])
        assert same != (run.start <= frame < run.stop)
        if same:
            visible = clip.modal_mask[frame]
            assert np.array_equal(result.rgba[frame, visible, :3], clip.rgb[frame, visible])
    assert (everywhere.amodal_mask[0] != clip.modal_mask[0]).any()


def test_given_masks_say_which_frames_stage_two_skips(content_only: AmodalCompleter, clip: VideoClip) -> None:
    whole = slide()[1]
    steps: list[str] = []
    with content_only.watched(steps.append):
        result = content_only(clip, content_only.config(skip_unoccluded=True, **SMALL), amodal_mask=whole)
    assert 0 < len(steps) < FRAMES / 3
    assert np.array_equal(result.amodal_mask, whole)
    steps.clear()
    with content_only.watched(steps.append):
        content_only(clip, content_only.config(skip_unoccluded=True, **SMALL), amodal_mask=clip.modal_mask)
    assert steps == []  # nothing is hidden anywhere


def test_one_interval_over_all_frames_changes_nothing(completer: AmodalCompleter, clip: VideoClip) -> None:
    short = VideoClip(clip.rgb[:9], clip.modal_mask[:9])
    frames = [[frame] for frame in frames_of(short)]
    plain, whole = (
        [result for _, result in completer.stream_objects(frames, [ObjectStream(intervals)], completer.config(**SMALL))]
        for intervals in (None, OcclusionIntervals.whole(9))
    )
    for first, second in zip(plain, whole, strict=True):
        assert np.array_equal(first.amodal_mask, second.amodal_mask)
        assert first.rgba is not None
        assert second.rgba is not None
        assert np.array_equal(first.rgba, second.rgba)


def test_intervals_of_another_clip_are_refused(completer: AmodalCompleter, clip: VideoClip) -> None:
    frames = [[frame] for frame in frames_of(clip)[:4]]
    for other in (3, 5):
        objects = [ObjectStream(OcclusionIntervals.whole(other))]
        with pytest.raises(InputError, match=f"intervals: .* those of {other} frames"):
            list(completer.stream_objects(frames, objects))
