"""Stage 2: visible pixels stay, the painting counts where it must, and colors of other frames take its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.pipelines import content_completion
from amodal_diffusion.pipelines.amodal_segmentation import SegmentedFrame
from amodal_diffusion.pipelines.completer import AmodalCompleter, ObjectStream
from amodal_diffusion.pipelines.content_completion import CompletedFrame, ContentCompletionPipeline, ContentStream
from amodal_diffusion.pipelines.denoising import WindowRequest
from amodal_diffusion.pipelines.preprocessing import FrameInput, clip_frames
from amodal_diffusion.propagation.colors import HiddenColors, blend_colors, fade_colors, propagated_colors
from amodal_diffusion.types import BoolArray, VideoClip
from tests.factories import SAMPLING, moving_square
from tests.propagation.moving import FRAMES, Moving, moving

GRAY = 120


@pytest.fixture(scope="module")
def truth() -> Moving:
    return moving()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A network that paints everything gray; first frames of the windows that it is asked about."""
    starts: list[int] = []

    def paint(_: object, requests: Sequence[WindowRequest], config: SamplingConfig, **__: object) -> list[Tensor]:
        starts.extend(request.start for request in requests)
        gray = GRAY / 127.5 - 1
        return [torch.full((1, len(request.modal), 3, config.height, config.width), gray) for request in requests]

    monkeypatch.setattr(content_completion, "sample_windows", paint)
    return starts


def segmented(clip: Moving, amodal: BoolArray, *, visible: bool = True, depth: bool = True) -> list[SegmentedFrame]:
    """Frames whose whole masks are known.

    Args:
        clip: pictures, visible parts and depth.
        amodal: whole masks, bool ``[F, H, W]``.
        visible: whether anything of the object is.
        depth: whether frames have it.
    """
    modal = clip.modal if visible else np.zeros_like(clip.modal)
    frames = zip(clip.rgb, modal, clip.depth if depth else [None] * FRAMES, strict=True)
    return [
        SegmentedFrame(FrameInput(rgb, seen, known), whole)
        for (rgb, seen, known), whole in zip(frames, amodal, strict=True)
    ]


def completed(
    pipeline: ContentCompletionPipeline, frames: Sequence[SegmentedFrame], **changes: Any
) -> list[CompletedFrame]:
    """All frames of one object through stage 2, by default in one window."""
    config = SAMPLING.changed({"num_frames": FRAMES, **changes})
    stream = ContentStream(pipeline, config, [None], done=[0], seed=0)
    return [found for frame in frames for _, found in stream.push([frame])] + [found for _, found in stream.push(None)]


def painted(frame: CompletedFrame) -> np.ndarray:
    assert frame.result.rgba is not None
    return frame.result.rgba[0, ..., :3]


@pytest.mark.parametrize("color_propagation", [False, True])
def test_a_frame_keeps_its_visible_pixels_and_is_composed_with_the_mask(
    content: ContentCompletionPipeline, truth: Moving, asked: list[int], color_propagation: bool
) -> None:
    found = completed(content, segmented(truth, truth.amodal), color_propagation=color_propagation)
    assert asked == [0]
    assert len(found) == FRAMES
    for frame, entry in enumerate(found):
        result = entry.result
        assert result.rgba is not None
        assert result.amodal_rgb is not None
        assert np.array_equal(result.amodal_mask[0], truth.amodal[frame])
        assert np.array_equal(result.rgba[0, ..., 3] == 255, truth.amodal[frame])
        seen = truth.modal[frame]
        assert np.array_equal(painted(entry)[seen], truth.rgb[frame][seen])
        assert np.array_equal(result.amodal_rgb[0][truth.amodal[frame]], painted(entry)[truth.amodal[frame]])
        assert (result.amodal_rgb[0][~truth.amodal[frame]] == 255).all()
        assert (painted(entry)[truth.hidden[frame]] == GRAY).all() == (not color_propagation)


def test_propagated_colors_are_better_and_are_counted(
    content: ContentCompletionPipeline, truth: Moving, asked: list[int]
) -> None:
    found = completed(content, segmented(truth, truth.amodal), color_propagation=True)
    for frame, entry in enumerate(found):
        hidden = truth.hidden[frame]
        wanted = truth.whole[frame][hidden].astype(float)
        assert np.abs(painted(entry)[hidden] - wanted).mean() < 0.6 * np.abs(GRAY - wanted).mean()
    assert asked == [0]
    assert sum(entry.hidden for entry in found) == truth.hidden.sum()
    assert 0.5 * truth.hidden.sum() < sum(entry.propagated for entry in found) <= truth.hidden.sum()


def test_without_color_propagation_nothing_is_counted(
    content: ContentCompletionPipeline, truth: Moving, asked: list[int]
) -> None:
    found = completed(content, segmented(truth, truth.amodal))
    assert asked == [0]
    assert {(entry.hidden, entry.propagated) for entry in found} == {(0.0, 0.0)}


def test_where_nothing_was_ever_visible_the_painting_stays(
    content: ContentCompletionPipeline, truth: Moving, asked: list[int]
) -> None:
    found = completed(content, segmented(truth, truth.amodal, visible=False, depth=False), color_propagation=True)
    assert asked == [0]
    for frame, entry in enumerate(found):
        assert (painted(entry)[truth.amodal[frame]] == GRAY).all()
        assert (entry.hidden, entry.propagated) == (truth.amodal[frame].sum(), 0.0)


def test_a_window_in_which_nothing_is_hidden_takes_no_work(
    content: ContentCompletionPipeline, truth: Moving, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_completion, "propagated_colors", None)  # would raise if it were called
    found = completed(content, segmented(truth, truth.modal), color_propagation=True)
    assert asked == []
    for frame, entry in enumerate(found):
        seen = truth.modal[frame]
        assert np.array_equal(painted(entry)[seen], truth.rgb[frame][seen])
        assert entry.hidden == 0


def test_colors_of_overlapping_windows_cross_fade(
    content: ContentCompletionPipeline, truth: Moving, asked: list[int]
) -> None:
    found = completed(content, segmented(truth, truth.amodal), color_propagation=True, num_frames=5)
    assert asked == [0, 3]  # windows of 5, the last moved back: frames 3 and 4 are in both
    windows = [
        propagated_colors(truth.rgb[part], truth.modal[part], truth.amodal[part], truth.depth[part])
        for part in (slice(0, 5), slice(3, 8))
    ]
    for frame, share in ((3, 1 / 3), (4, 2 / 3)):
        first, second = windows[0][frame], windows[1][frame - 3]
        assert first is not None
        assert second is not None
        hidden, gray = truth.hidden[frame], np.full_like(truth.rgb[frame], GRAY)
        faded = blend_colors(gray, hidden, first.faded(second, share))
        assert np.array_equal(painted(found[frame])[hidden], faded[hidden])
        assert (faded != blend_colors(gray, hidden, first)).any()


def test_colors_that_one_window_knows_alone_are_taken_from_it() -> None:
    one, other = (HiddenColors(np.full((1, 3), v), np.full(1, v)) for v in (0.0, 1.0))
    known: dict[int, HiddenColors | None] = {}
    fade_colors(known, 0, [one, None, one])
    fade_colors(known, 1, [other, None, other])
    assert known[0] is one
    assert known[1] is other
    assert known[2] is one
    assert known[3] is other
    fade_colors(known, 3, [one])
    assert known[3] is not None
    assert known[3].sure == pytest.approx(0.5)


def test_the_painting_stays_where_no_frame_shows_the_color() -> None:
    hidden = np.array([[True, True, False]])
    colors = HiddenColors(np.full((2, 3), 200, np.float32), np.array([0, 1], np.float32))
    gray = np.full((1, 3, 3), GRAY, np.uint8)
    blended = blend_colors(gray, hidden, colors)
    assert blended[0, :, 0].tolist() == [GRAY, 200, GRAY]
    assert (gray == GRAY).all()


def test_color_propagation_through_the_completer(content_only: AmodalCompleter, truth: Moving) -> None:
    clip = VideoClip(truth.rgb, truth.modal, fps=8.0)

    def paint(**changes: Any) -> tuple[float, float]:
        """Mean error of hidden colors in gray levels, and how many of them are propagated."""
        objects = [ObjectStream()]
        frames = ([frame] for frame in clip_frames(clip, truth.depth, truth.amodal))
        config = content_only.config(num_frames=FRAMES, num_inference_steps=1, height=16, width=32, **changes)
        results = [result.rgba for _, result in content_only.stream_objects(frames, objects, config)]
        rgba = np.concatenate([layer for layer in results if layer is not None])
        assert np.array_equal(rgba[truth.modal][:, :3], truth.rgb[truth.modal])
        painted = rgba[truth.hidden][:, :3].astype(float)
        return float(np.abs(painted - truth.whole[truth.hidden]).mean()), objects[0].statistics.propagated

    without, nothing = paint()
    assert nothing == 0
    better, propagated = paint(color_propagation=True)
    assert propagated > 0.5 * truth.hidden.sum()
    assert better < 0.6 * without
    assert paint(preset="paper")[1] == 0


def test_outside_a_crop_a_frame_is_white(content: ContentCompletionPipeline, asked: list[int]) -> None:
    clip = moving_square(4, 48, 96)
    whole = np.ones_like(clip.modal_mask)
    frames = [SegmentedFrame(frame, mask) for frame, mask in zip(clip_frames(clip), whole, strict=True)]
    found = completed(content, frames, num_frames=4, fit="crop", crop_scale=1.5)
    assert asked == [0]
    colors = painted(found[0])
    assert (colors[40:] == 255).all()
    assert (colors[16, 6:12] == GRAY).all()  # hidden, below the square and inside the crop
