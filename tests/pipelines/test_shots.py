"""Hard cuts: each shot of a clip gets to the byte what it gets alone, whatever the other shots show."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from amodal_diffusion.basics import Cuts, InputError
from amodal_diffusion.config import MASK_FILTERS
from amodal_diffusion.frames.crop import crop_centers
from amodal_diffusion.pipelines import amodal_segmentation, content_completion
from amodal_diffusion.pipelines.amodal_segmentation import SegmentationStream
from amodal_diffusion.pipelines.completer import AmodalCompleter, ObjectStream
from amodal_diffusion.pipelines.content_completion import ContentStream
from amodal_diffusion.pipelines.denoising import WindowRequest, sample_windows
from amodal_diffusion.pipelines.object_streams import join_results
from amodal_diffusion.pipelines.occlusion_intervals import (
    IntervalFrame,
    OcclusionInterval,
    OcclusionIntervals,
    find_occlusion_intervals,
    intervals_of_masks,
)
from amodal_diffusion.pipelines.preprocessing import FrameInput, clip_frames
from amodal_diffusion.types import AmodalResult, BoolArray, FloatArray, VideoClip
from tests.factories import moving_square

CUT, FRAMES = 5, 10  # windows of 4 frames that share one: without the cut, some would cross it
SIZE = {"height": 16, "width": 32, "num_inference_steps": 1}
PLAIN: dict[str, Any] = {}
BEYOND = {
    "fit": "crop",
    "temporal_prior": True,
    "mask_propagation": True,
    "mask_threshold": 0.3,
    "mask_filters": MASK_FILTERS,
    "color_propagation": True,
}


def shot(seed: int, frames: int, *, mirrored: bool = False) -> tuple[VideoClip, FloatArray]:
    """A square that a nearer bar hides in part, over noise of one tint, and its depth, whose range depends on the seed.

    Args:
        seed: of colors and depth.
        frames: of the shot.
        mirrored: for another place and motion of the object.
    """
    rng = np.random.default_rng(seed)
    clip = moving_square(frames, seed=seed)
    rgb = (clip.rgb // 3 + rng.integers(0, 170, 3)).astype(np.uint8)
    rgb[clip.modal_mask] += np.uint8(20)
    depth = rng.random(clip.modal_mask.shape, dtype=np.float32) * np.float32(0.1 + seed)
    depth[clip.modal_mask] = 0.4 + seed
    modal = clip.modal_mask.copy()
    modal[:, 8:12] = False
    depth[:, 8:12] = 0.9 + seed
    if mirrored:
        rgb, modal, depth = rgb[:, ::-1, ::-1], modal[:, ::-1, ::-1], depth[:, ::-1, ::-1]
    return VideoClip(rgb, modal), depth


def joined(*shots: tuple[VideoClip, FloatArray], cuts: Cuts = "auto") -> tuple[VideoClip, FloatArray]:
    clip = VideoClip(
        np.concatenate([clip.rgb for clip, _ in shots]),
        np.concatenate([clip.modal_mask for clip, _ in shots]),
        cuts=cuts,
    )
    return clip, np.concatenate([depth for _, depth in shots])


FIRST, SECOND = shot(1, CUT), shot(2, FRAMES - CUT, mirrored=True)


def part(result: AmodalResult, frames: slice) -> list[bytes]:
    """All arrays of some frames of a result."""
    arrays = [result.amodal_mask[frames], result.amodal_rgb[frames], result.rgba[frames]]  # type: ignore[index]
    return [array.tobytes() for array in arrays]


ALL, BEFORE, AFTER = slice(None), slice(CUT), slice(CUT, None)


@pytest.mark.parametrize(
    ("changes", "with_depth"),
    [(PLAIN, False), ({**BEYOND, "skip_unoccluded": True}, True)],
    ids=["plain", "beyond-depth-skip"],
)
@pytest.mark.slow  # with the command, the fast tests see it in `tests/commands/test_cuts.py`
def test_nothing_crosses_a_cut(completer: AmodalCompleter, changes: dict[str, Any], with_depth: bool) -> None:
    config = completer.config(**SIZE, **changes)

    def complete(given: tuple[VideoClip, FloatArray]) -> AmodalResult:
        clip, depth = given
        return completer(clip, config, depth=depth if with_depth else None, seed=3)

    clip, _ = both = joined(FIRST, SECOND)
    found = complete(both)
    for frames in (BEFORE, AFTER):
        assert (found.amodal_mask & ~clip.modal_mask)[frames].any()
    assert part(found, BEFORE) == part(complete(FIRST), ALL)  # the first shot as a clip of its own
    other_first, other_second = shot(5, CUT), shot(7, FRAMES - CUT)
    assert part(complete(joined(other_first, SECOND)), AFTER) == part(found, AFTER)
    assert part(complete(joined(FIRST, other_second)), BEFORE) == part(found, BEFORE)
    assert part(complete(joined(FIRST, SECOND, cuts=(CUT,))), ALL) == part(found, ALL)
    mixed, other = (complete(joined(first, SECOND, cuts="none")) for first in (FIRST, other_first))
    assert part(mixed, AFTER) != part(other, AFTER)  # without the cut, shots do mix


@pytest.mark.parametrize("changes", [pytest.param(PLAIN, marks=pytest.mark.slow), BEYOND], ids=["plain", "beyond"])
def test_a_shot_gets_what_it_gets_alone_with_the_noise_of_its_frames(
    completer: AmodalCompleter, changes: dict[str, Any]
) -> None:
    config = completer.config(**SIZE, **changes)
    found = completer(joined(FIRST, SECOND)[0], config, seed=3)
    assert completer._segmentation is not None
    assert completer._content is not None
    assert config.amodal_segmentation is not None
    assert config.content_completion is not None
    one = SegmentationStream(completer._segmentation, config.amodal_segmentation, [None], seed=3, first=CUT)
    two = ContentStream(completer._content, config.content_completion, [None], done=[0], seed=3, first=CUT)
    results = []
    for entries in [*([frame] for frame in clip_frames(SECOND[0])), None]:
        (masked,) = one.push(entries)
        steps: list[Any] = [[frame] for frame in masked]
        for step in [*steps, None] if entries is None else steps:
            results += [frame.result for _, frame in two.push(step)]
    assert part(join_results(results), ALL) == part(found, AFTER)
    assert part(completer(SECOND[0], config, seed=3), ALL) != part(found, AFTER)  # noise depends on the frame's number


def test_windows_are_those_of_shots_and_count_in_the_clip(
    completer: AmodalCompleter, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[tuple[int, int]] = []

    def noted(pipeline: Any, requests: Sequence[WindowRequest], *settings: Any, **options: Any) -> list[Tensor]:
        windows.extend((request.start, len(request.modal)) for request in requests)
        return sample_windows(pipeline, requests, *settings, **options)

    for stage in (amodal_segmentation, content_completion):
        windows.clear()
        with monkeypatch.context() as patch:
            patch.setattr(stage, "sample_windows", noted)
            completer(joined(FIRST, SECOND, cuts=(2, CUT))[0], completer.config(**SIZE))
        assert windows == [(0, 2), (2, 3), (CUT, 4), (CUT + 1, 4)]  # noise depends on the frame's number


def test_without_cuts_nothing_changes(completer: AmodalCompleter) -> None:
    config = completer.config(**SIZE, **BEYOND, skip_unoccluded=True)
    clip, depth = shot(1, FRAMES)
    auto, none = (completer(replace(clip, cuts=cuts), config, depth=depth) for cuts in ("auto", "none"))
    assert part(auto, ALL) == part(none, ALL)
    # Two shots as one: what a stream gives in which no frame is marked
    two, config = joined(FIRST, SECOND, cuts="none"), completer.config(**SIZE)
    stream = completer.stream(clip_frames(*two), config)
    assert part(join_results(list(stream)), ALL) == part(completer(two[0], config, depth=two[1]), ALL)


def test_a_stream_is_told_where_shots_start(completer: AmodalCompleter) -> None:
    config = completer.config(**SIZE, **BEYOND)
    clip, depth = joined(FIRST, SECOND)
    frames = list(clip_frames(clip, depth))
    assert [number for number, frame in enumerate(frames) if frame.starts_shot] == [CUT]
    frames[0] = replace(frames[0], starts_shot=True)  # of which nothing comes
    read = 0

    def one_by_one() -> Iterator[FrameInput]:
        nonlocal read
        for frame in frames:
            read += 1
            yield frame

    results = []
    for result in completer.stream(one_by_one(), config):
        results.append(result)
        assert read <= CUT + 1 or len(results) > CUT  # the first shot is finished before the second goes on
    assert part(join_results(results), ALL) == part(completer(clip, config, depth=depth), ALL)


@pytest.mark.parametrize("done", [1, CUT, CUT + 2])
def test_an_interrupted_stream_goes_on_in_any_shot(completer: AmodalCompleter, done: int) -> None:
    config = completer.config(**SIZE, **BEYOND)
    frames = list(clip_frames(*joined(FIRST, SECOND)))

    def results(given: Sequence[FrameInput], count: int) -> list[AmodalResult]:
        objects = [ObjectStream(done=count)]
        return [result for _, result in completer.stream_objects(([frame] for frame in given), objects, config)]

    whole = results(frames, 0)
    known = [replace(frame, amodal=whole[n].amodal_mask[0]) if n < done else frame for n, frame in enumerate(frames)]
    rest = results(known, done)
    assert len(rest) == FRAMES - done
    assert [part(result, ALL) for result in rest] == [part(result, ALL) for result in whole[done:]]


@pytest.mark.parametrize(("changes", "skip"), [(PLAIN, False), (BEYOND, True)], ids=["plain", "beyond"])
def test_a_shot_that_never_shows_the_object_stays_empty(
    completer: AmodalCompleter, changes: dict[str, Any], skip: bool
) -> None:
    config = completer.config(**SIZE, **changes, skip_unoccluded=skip)
    clip, depth = joined(FIRST, SECOND)
    modal = clip.modal_mask.copy()
    modal[CUT:] = False
    hidden = replace(clip, modal_mask=modal)
    result = completer(hidden, config, depth=depth, seed=3)
    assert not result.amodal_mask[AFTER].any()
    assert result.rgba is not None
    assert not result.rgba[AFTER].any()
    assert part(result, BEFORE) == part(completer(FIRST[0], config, depth=FIRST[1], seed=3), ALL)
    whole = modal.copy()
    whole[AFTER, 3:9, 3:9] = True  # unless its masks are known
    assert np.array_equal(completer(hidden, config, amodal_mask=whole).amodal_mask, whole)


def test_a_notice_names_the_cuts_that_are_found(completer: AmodalCompleter, caplog: pytest.LogCaptureFixture) -> None:
    config = completer.config(**SIZE)
    clip, _ = joined(FIRST, SECOND, FIRST)
    with caplog.at_level(logging.WARNING, "amodal_diffusion"):
        completer(clip, config)
        (notice,) = (record.getMessage() for record in caplog.records)
        assert notice.startswith(f"cuts: new shots begin at frame {CUT}, {FRAMES}; each shot is completed by itself")
        caplog.clear()
        for cuts in ((CUT, FRAMES), "none"):
            completer(replace(clip, cuts=cuts), config)
        completer(FIRST[0], config)
        assert caplog.records == []


def box(left: int, side: int, height: int = 6) -> BoolArray:
    mask = np.zeros((24, 40), np.bool_)
    mask[6 : 6 + height, left : left + side] = True
    return mask


def test_intervals_of_a_shot_come_from_its_frames_alone() -> None:
    small, large = [box(left, 6) for left in range(2, 20, 3)], [box(left, 10) for left in range(2, 20, 3)]
    frames = [IntervalFrame(mask) for mask in [*small, *large]]
    cut = len(small)
    assert [run.reasons for run in find_occlusion_intervals(frames).runs] == [("smaller than elsewhere",)]
    assert find_occlusion_intervals(frames, cuts=[cut]) == OcclusionIntervals(12, (), (cut,))
    nothing = [IntervalFrame(np.zeros((24, 40), np.bool_))] * 3
    assert find_occlusion_intervals([*frames, *nothing], cuts=[cut, 12]).runs == ()
    # A run ends at a cut, and a shot's own intervals count from its first frame
    still = [IntervalFrame(small[0])] * 4
    found = find_occlusion_intervals([*still, *still], cuts=[4])
    why = ("no motion that would tell",)
    assert found.runs == (OcclusionInterval(0, 4, why), OcclusionInterval(4, 8, why))
    assert found.shot(4) == OcclusionIntervals(4, (OcclusionInterval(0, 4, why),))
    assert list(found.candidate_frames()) == [True] * 8
    masks = [(small[0], large[0])] * 4
    assert intervals_of_masks(masks, cuts=[1]).shot(1).runs == (
        OcclusionInterval(0, 3, ("hidden in the whole masks",)),
    )


def test_shots_without_the_object_are_left_out() -> None:
    visible = [True, False, False, False, True]
    assert OcclusionIntervals.of_shots(visible, []) is None
    assert OcclusionIntervals.of_shots(visible, [1, 4]) == OcclusionIntervals(
        5, tuple(OcclusionInterval(at, at + 1, ("all frames asked for",)) for at in (0, 4)), (1, 4)
    )


def test_intervals_with_other_cuts_are_refused(completer: AmodalCompleter) -> None:
    frames = list(clip_frames(*joined(FIRST, SECOND)))
    for cuts, message in (((), f"{CUT} starts a shot"), ((3, CUT), "3 starts none")):
        objects = [ObjectStream(replace(OcclusionIntervals.whole(FRAMES), cuts=cuts))]
        with pytest.raises(InputError, match=f"intervals: expected those of the clip, got other cuts: frame {message}"):
            list(completer.stream_objects(([frame] for frame in frames), objects, completer.config(**SIZE)))


def test_crops_of_a_shot_follow_its_masks_alone() -> None:
    small, large = [box(2, 6), box(8, 6)], [box(20, 10), box(22, 10), box(24, 10)]
    assert crop_centers([*small, *large], cuts=[2]) == [*crop_centers(small), *crop_centers(large)]
    assert crop_centers([*small, *large]) != [*crop_centers(small), *crop_centers(large)]
    (center,) = set(crop_centers([*small, np.zeros((24, 40), np.bool_)], cuts=[2])[2:])
    assert (center.row, center.column, center.height, center.width) == (12, 20, 24, 40)
