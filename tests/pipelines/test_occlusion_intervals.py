"""Where an object can be hidden, and that the networks are asked there alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.pipelines import appearance_stream, mask_stream
from amodal_diffusion.pipelines.completer import AmodalCompleter, FrameInput
from amodal_diffusion.pipelines.occlusion_intervals import CONTEXT, Span, SpanFrame, Spans, find_spans, given_spans
from amodal_diffusion.pipelines.postprocessing import Guards
from amodal_diffusion.pipelines.window_sampling import sample_window
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.types import BoolArray, FloatArray, InputError, VideoClip
from tests.factories import tiny_completer_folder

FRAMES, HEIGHT, WIDTH = 40, 24, 96
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


def found(modal: BoolArray, depth: FloatArray | None = None, **options: bool) -> Spans:
    return find_spans(
        (SpanFrame(mask, None if depth is None else depth[frame]) for frame, mask in enumerate(modal)), **options
    )


def test_depth_shows_where_something_nearer_is_beside_the_object() -> None:
    modal, whole, depth = slide()
    spans = found(modal, depth)
    hidden = (whole & ~modal).any(axis=(1, 2))
    (run,) = spans.runs
    assert run.reasons == ("nearer neighbour",)
    assert np.array_equal(np.flatnonzero(hidden), range(run.start + 1, run.stop - 1))  # and where the bar just touches


def test_without_depth_the_shape_where_it_is_seen_best_tells() -> None:
    modal, whole, _ = slide()
    spans = found(modal)
    hidden = (whole & ~modal).any(axis=(1, 2))
    assert np.array_equal(list(spans.doubtful()), hidden)
    assert {reason for run in spans.runs for reason in run.reasons} == {"smaller than elsewhere"}


def test_what_stands_still_is_in_doubt_without_depth_and_not_with_it() -> None:
    modal, _, depth = (array[[0] * 6] for array in slide())
    assert found(modal).runs == (Span(0, 6, ("no motion that would tell",)),)
    assert found(modal, depth).runs == ()
    assert found(modal, np.zeros_like(depth)) == found(modal)  # depth that says nothing is none


def test_border_and_others_are_reasons_and_a_frame_that_shows_nothing_is_one() -> None:
    modal, _, depth = slide()
    modal, depth = modal[:16].copy(), depth[:16]
    modal[3] = False
    modal[8, :7, 18] = True
    assert found(modal, depth).runs == (Span(3, 4, ("not visible",)),)
    assert found(modal, depth, beyond=True).runs == (Span(3, 4, ("not visible",)), Span(8, 9, ("image border",)))
    assert Span(8, 9, ("image border",)) in found(modal).runs
    beside = np.zeros_like(modal[0])
    beside[6:16, 22] = True
    frames = [SpanFrame(mask, others=beside if frame == 5 else None) for frame, mask in enumerate(modal)]
    assert Span(5, 6, ("another object beside it",)) in find_spans(frames).runs


def test_given_masks_say_where_something_is_hidden() -> None:
    modal, whole, _ = slide()
    spans = given_spans(zip(modal, whole, strict=True))
    assert np.array_equal(list(spans.doubtful()), (whole & ~modal).any(axis=(1, 2)))


def test_scenes_hide_nothing_where_depth_finds_nothing() -> None:
    hidden = missed = 0
    for seed in range(4):
        scene = make_scene(seed, split="train", with_rgb=False)
        doubtful = np.array(list(found(scene.target.modal, scene.depth).doubtful()))
        parts = (scene.target.amodal & ~scene.target.modal).sum(axis=(1, 2))
        hidden, missed = hidden + parts.sum(), missed + parts[~doubtful].sum()
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
    spans = Spans(50, tuple(Span(start, stop, ()) for start, stop in runs))
    assert spans.segments(16, 4) == expected


def test_the_part_of_a_window_that_is_in_doubt() -> None:
    spans = Spans(50, (Span(10, 12, ()), Span(20, 30, ())))
    assert [spans.around(*window) for window in ((0, 16), (11, 22), (22, 26), (12, 20), (30, 40))] == [
        (10, 12), (11, 22), (22, 26), (12, 12), (30, 30)
    ]  # fmt: skip


def test_what_left_the_frame_is_not_hidden() -> None:
    modal, _, depth = slide()
    modal, depth = modal[:16].copy(), depth[:16].copy()
    modal[:4], modal[12:] = False, False
    modal[4, 6:16, 0] = True  # it comes in, and stops being seen in the middle of the frame
    assert found(modal, depth).runs == (Span(12, 16, ("not visible",)),)
    assert found(modal, depth, beyond=True).runs[0].start == 0
    depth[4, :, 1] = 1.0
    depth[4][modal[4]] = 0.5
    assert found(modal, depth).runs[0].start == 0  # something nearer is beside it where it comes in


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> AmodalCompleter:
    return AmodalCompleter.from_pretrained(Path(tiny_completer_folder(tmp_path_factory.mktemp("model"))), device="cpu")


@pytest.fixture(scope="module")
def clip() -> VideoClip:
    rng = np.random.default_rng(0)
    return VideoClip(rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8), slide()[0])


def test_networks_see_the_spans_alone_and_other_frames_stay_as_they_are(
    completer: AmodalCompleter, clip: VideoClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watch(*args: object, start: int, **options: object) -> object:
        seen.append(start)
        return sample_window(*args, start=start, **options)  # type: ignore[arg-type]

    for stage in (mask_stream, appearance_stream):
        monkeypatch.setattr(stage, "sample_window", watch)
    depth = slide()[2]
    spans = found(clip.modal_mask, depth)
    (run,) = spans.runs
    result = completer.complete(clip, depth=depth, samples=2, guards=Guards.of(["none"]), spans="auto")
    windows = len(seen)
    assert {frame for start in seen for frame in range(start, start + 4)} >= set(range(run.start, run.stop))
    assert all(start < run.stop and run.start < start + 4 for start in seen)  # no window of frames around it alone
    everywhere = completer.complete(clip, depth=depth, samples=2, guards=Guards.of(["none"]))
    assert len(seen) - windows > windows
    assert result.samples is not None
    assert result.samples.shape == (2, *clip.modal_mask.shape)
    assert result.rgba is not None
    for frame in range(FRAMES):
        same = np.array_equal(result.amodal_mask[frame], clip.modal_mask[frame])
        assert same != (run.start <= frame < run.stop)
        if same:
            assert np.array_equal(
                result.rgba[frame, clip.modal_mask[frame], :3], clip.rgb[frame, clip.modal_mask[frame]]
            )
    assert (everywhere.amodal_mask[0] != clip.modal_mask[0]).any()


def test_all_is_what_a_stream_without_spans_gives(completer: AmodalCompleter, clip: VideoClip) -> None:
    frames = [FrameInput(rgb, modal) for rgb, modal in zip(clip.rgb, clip.modal_mask, strict=True)]
    plain, whole = (list(completer.stream(frames, spans=spans)) for spans in (None, Spans.whole(FRAMES)))
    for first, second in zip(plain, whole, strict=True):
        assert np.array_equal(first.amodal_mask, second.amodal_mask)
        assert first.rgba is not None
        assert second.rgba is not None
        assert np.array_equal(first.rgba, second.rgba)


def test_spans_of_another_clip_are_refused(completer: AmodalCompleter, clip: VideoClip) -> None:
    frames = [FrameInput(rgb, modal) for rgb, modal in zip(clip.rgb[:4], clip.modal_mask[:4], strict=True)]
    for other in (3, 5):
        with pytest.raises(InputError, match=f"spans: .* those of {other} frames"):
            list(completer.stream(frames, spans=Spans.whole(other)))
