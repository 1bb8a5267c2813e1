"""Stage 1: what the network is asked, test-time augmentation, the temporal prior in the scores, samples, masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.pipelines import amodal_segmentation
from amodal_diffusion.pipelines.amodal_segmentation import (
    AmodalSegmentationPipeline,
    SegmentationStream,
    SegmentedFrame,
    given_masks,
    predict_scores,
)
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.pipelines.denoising import WindowRequest, sample_windows
from amodal_diffusion.pipelines.postprocessing import mask_score
from amodal_diffusion.pipelines.preprocessing import FrameInput, clip_frames
from amodal_diffusion.types import BoolArray, VideoClip
from tests.factories import SAMPLING, moving_square
from tests.pipelines.formulas import bilinear
from tests.propagation.moving import moving

Answer = Callable[[WindowRequest, tuple[int, ...]], Tensor]


def with_network(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> list[tuple[WindowRequest, tuple[int, ...]]]:
    """Put a function in place of the network: request, flip -> video ``[K, F, 3, h, w]``; returns what it is asked."""
    asked: list[tuple[WindowRequest, tuple[int, ...]]] = []

    def sample(
        _: object,
        requests: Sequence[WindowRequest],
        __: object,
        *,
        seed: int,
        keep: Callable[[Tensor], Tensor],
        flip: tuple[int, ...] = (),
    ) -> list[Tensor]:
        assert isinstance(seed, int)
        asked.extend((request, flip) for request in requests)
        return [keep(answer(request, flip)) for request in requests]

    monkeypatch.setattr(amodal_segmentation, "sample_windows", sample)
    return asked


def segmented(
    pipeline: AmodalSegmentationPipeline, clip: VideoClip, config: SamplingConfig, depth: Any = None
) -> list[SegmentedFrame]:
    """All frames of a clip through stage 1."""
    stream = SegmentationStream(pipeline, config, [None], seed=0)
    parts = [stream.push([frame])[0] for frame in clip_frames(clip, depth)]
    return [frame for part in [*parts, stream.push(None)[0]] for frame in part]


def masks_of(frames: Sequence[SegmentedFrame]) -> BoolArray:
    return np.stack([frame.amodal for frame in frames])


@pytest.mark.parametrize("tta", [1, 2, 4])
def test_scores_are_the_mean_over_passes_of_test_time_augmentation(
    tta: int, segmentation: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass is mirrored back before the mean: a network that always answers the left half gives both halves."""

    def left(request: WindowRequest, flip: tuple[int, ...]) -> Tensor:
        """The left half, but none of it in the last frame, of whatever the network is shown."""
        video = torch.full((2, len(request.modal), 3, *request.modal.shape[2:]), -1.0)
        video[:, :-1, :, :, :3] = 1.0
        return video.flip([axis + 1 if axis >= 0 else axis for axis in flip])

    asked = with_network(monkeypatch, left)
    request = WindowRequest(0, torch.zeros(3, 1, 4, 6), None, (0, 3))
    (score,) = predict_scores(segmentation, [request], SAMPLING.changed({"tta": tta}), seed=0)
    assert score.shape == (3, 2, 4, 6)
    assert [flip for _, flip in asked] == [(), (-1,), (0,), (0, -1)][:tta]
    on, off, half, quarter = [1.0] * 3, [0.0] * 3, [0.5] * 6, [0.25] * 6
    expected = {1: [on + off, on + off, off + off], 2: [half, half, off + off], 4: [quarter, half, quarter]}[tta]
    assert score[:, 0, 0].tolist() == expected
    assert torch.equal(score[:, 1], score[:, 0])


@pytest.mark.parametrize("flip", [(), (-1,), (0,), (0, -1)])
def test_a_mirrored_pass_shows_the_network_mirrored_windows_and_turns_its_answer_back(
    flip: tuple[int, ...], segmentation: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor, slice]] = []

    def repeat(_: object, modal: Tensor, guide: Tensor, *, decoded: list[slice], **__: object) -> Any:
        seen.append((modal, guide, decoded[0]))
        return type("Output", (), {"video": modal.expand(-1, -1, 3, -1, -1)})

    monkeypatch.setattr(AmodalSegmentationPipeline, "__call__", repeat)
    modal = torch.rand(4, 1, 8, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    request = WindowRequest(0, modal, -modal, (0, 3))
    (video,) = sample_windows(segmentation, [request], replace(SAMPLING, samples=2), seed=0, flip=flip)
    assert torch.equal(video, modal.expand(2, -1, 3, -1, -1))
    ((shown, guide, decoded),) = seen
    assert torch.equal(shown, modal.flip(flip).expand(2, -1, -1, -1, -1))
    assert torch.equal(guide, -shown)
    assert list(range(4)[decoded]) == ([1, 2, 3] if 0 in flip else [0, 1, 2])


def test_passes_cost_what_they_say_and_change_the_mask(masks_only: AmodalCompleter) -> None:
    clip, masks = moving_square(3), {}
    for tta in (1, 2, 4):
        calls: list[str] = []
        config = masks_only.config(tta=tta)
        assert config.amodal_segmentation is not None
        with masks_only.watched(calls.append):
            masks[tta] = masks_only(clip, config).amodal_mask
        assert len(calls) == tta * config.amodal_segmentation.network_passes
        assert not (clip.modal_mask & ~masks[tta]).any()
    assert not np.array_equal(masks[1], masks[2])  # random weights are not symmetric


@pytest.mark.parametrize("window", [8, 5])
def test_hidden_parts_that_other_frames_show_are_filled_in(
    segmentation: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    truth = moving()
    clip = VideoClip(truth.rgb, truth.modal)
    with_network(monkeypatch, lambda request, _: torch.full((1, len(request.modal), 3, 32, 64), -1.0))
    plain = SAMPLING.changed({"mask_threshold": 0.5, "num_frames": window})
    for depth in (truth.depth, None):
        found = {
            on: masks_of(segmented(segmentation, clip, plain.changed({"mask_propagation": on}), depth))
            for on in (False, True)
        }
        assert not (found[False] & truth.hidden).any()
        assert (found[True] & truth.hidden).sum() > 0.8 * truth.hidden.sum()
        assert (found[True] & ~truth.amodal).sum() < 0.25 * truth.hidden.sum()  # a rim of a pixel


def test_what_the_network_invents_where_other_frames_show_background_goes(
    segmentation: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = moving()
    with_network(monkeypatch, lambda request, _: torch.full((1, len(request.modal), 3, 32, 64), 0.0))
    plain = SAMPLING.changed({"mask_threshold": 0.45})
    invented = [
        int(
            (
                masks_of(segmented(segmentation, VideoClip(truth.rgb, truth.modal), config, truth.depth))
                & ~truth.amodal
            ).sum()
        )
        for config in (plain, plain.changed({"mask_propagation": True}))
    ]
    assert invented[1] < 0.2 * invented[0]


def paper_mask(video: np.ndarray, modal: BoolArray) -> tuple[BoolArray, BoolArray]:
    """The paper's rule on one frame: the three 8-bit levels sum to more than 600, scaled to the frame, at least half.

    Args:
        video: float ``[3, h, w]`` in [-1, 1].
        modal: visible part, bool ``[H, W]``.

    Returns:
        mask, and where scaling comes so near to one half that rounding decides; bool ``[H, W]`` each.
    """
    levels = np.clip(np.rint((video.astype(np.float64) + 1) * 127.5), 0, 255).astype(np.int64)
    inside = (levels.sum(axis=0) > 600).astype(np.float64)
    share = bilinear(inside, (modal.shape[0], modal.shape[1]))
    return (share >= 0.5) | modal, (np.abs(share - 0.5) < 1e-5) & ~modal


@pytest.mark.parametrize(
    ("height", "width", "exact"),  # where all weights of the bilinear mean are dyadic, nothing is rounded
    [(32, 64, True), (64, 128, True), (71, 190, False), (33, 64, False), (128, 100, False)],
)
def test_the_paper_preset_cuts_masks_as_the_paper_does(
    masks_only: AmodalCompleter, monkeypatch: pytest.MonkeyPatch, height: int, width: int, exact: bool
) -> None:
    rng = np.random.default_rng(height)
    levels = rng.integers(150, 256, (1, 5, 3, 32, 64))  # sums from 450 to 765, some of them 600 and 601
    assert {600, 601} <= set(levels.sum(axis=2).ravel().tolist())
    video = torch.from_numpy(levels).float() / 127.5 - 1
    with_network(monkeypatch, lambda request, _: video[:, request.start : request.start + len(request.modal)])
    clip = moving_square(4, height, width)
    config = masks_only.config(preset="paper", fit="stretch")
    assert config.amodal_segmentation is not None
    assert config.amodal_segmentation.conditioning == "released"
    found = masks_only(clip, config).amodal_mask
    for frame in range(4):
        expected, unsure = paper_mask(video[0, frame].numpy(), clip.modal_mask[frame])
        assert expected.any()
        assert not expected.all()
        assert ((found[frame] == expected) | (unsure & (not exact))).all()
        assert unsure.mean() < 0.1 or exact


def test_a_mask_is_cut_from_its_own_score_alone_without_filters(
    segmentation: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = moving_square(4, 32, 64)
    video = torch.rand(1, 4, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with_network(monkeypatch, lambda *_: video)
    frames = segmented(segmentation, clip, SAMPLING)
    assert np.array_equal(masks_of(frames), (mask_score(video[0]) > 0.5).numpy() | clip.modal_mask)
    assert all(frame.removed.total() == 0 and frame.samples is None for frame in frames)


def test_windows_are_cross_faded_before_masks_are_cut(
    segmentation: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = moving_square(7, 32, 64)
    asked = with_network(monkeypatch, lambda request, _: torch.full((1, 4, 3, 32, 64), 1.0 if request.start else -1.0))
    area = masks_of(segmented(segmentation, clip, replace(SAMPLING, mask_threshold=0.4))).mean(axis=(1, 2))
    assert [request.start for request, _ in asked] == [0, 3]
    assert (area[:3] < 0.1).all()
    assert (area[3:] == 1).all()  # the shared frame has a half, above the threshold


def test_frames_whose_mask_is_known_are_left_alone(
    segmentation: AmodalSegmentationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = moving_square(5, 32, 64)
    whole = np.zeros_like(clip.modal_mask[0])
    whole[:4] = True
    asked = with_network(monkeypatch, lambda request, _: torch.full((2, len(request.modal), 3, 32, 64), 1.0))
    stream = SegmentationStream(segmentation, replace(SAMPLING, samples=2), [None], seed=0)
    frames = [replace(frame, amodal=whole) if number != 4 else frame for number, frame in enumerate(clip_frames(clip))]
    found = [out for frame in frames for out in stream.push([frame])[0]] + stream.push(None)[0]
    assert [request.start for request, _ in asked] == [1]  # the first window needs no network
    for number, out in enumerate(found):
        expected = np.ones_like(whole) if number == 4 else whole | clip.modal_mask[number]
        assert out.samples is not None
        assert np.array_equal(out.samples, np.stack([expected] * 2))
        assert np.array_equal(out.amodal, expected)


def test_without_stage_one_every_frame_brings_its_mask() -> None:
    clip = moving_square(1)
    frame = FrameInput(clip.rgb[0], clip.modal_mask[0], amodal=np.roll(clip.modal_mask[0], 3, axis=1))
    assert frame.amodal is not None
    assert np.array_equal(given_masks(frame, 0).amodal, frame.amodal | frame.modal)
    with pytest.raises(InputError, match="frame 7: stage 1 is not loaded, so every frame needs its amodal mask"):
        given_masks(replace(frame, amodal=None), 7)


def test_several_samples_and_their_consensus(masks_only: AmodalCompleter) -> None:
    clip = moving_square(7)
    one = masks_only(clip)
    three = masks_only(clip, masks_only.config(samples=3))
    assert one.samples is None
    assert np.array_equal(one.probability, one.amodal_mask)
    assert three.samples is not None
    assert three.samples.shape == (3, *clip.modal_mask.shape)
    assert np.array_equal(three.samples[0], one.amodal_mask)  # the first is the same however many there are
    assert not np.array_equal(three.samples[1], three.samples[2])
    assert np.array_equal(three.amodal_mask, three.probability > 0.5)
    assert (three.samples >= clip.modal_mask).all()
    two = masks_only(clip, masks_only.config(samples=2))
    assert two.samples is not None
    assert np.array_equal(two.samples, three.samples[:2])
    assert np.array_equal(two.amodal_mask, two.samples[0])
    with pytest.raises(InputError, match="samples: expected at least 1, got 0"):
        masks_only.config(samples=0)
