"""Frames that bring their scores: masks are cut as if stage 1 had given them, and a threshold that is given counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import (
    AmodalCompleter,
    CompletionConfig,
    FrameInput,
    ObjectStream,
)
from amodal_diffusion.pipelines.object_streams import join_results
from amodal_diffusion.pipelines.preprocessing import clip_frames
from amodal_diffusion.types import AmodalResult, FloatArray, VideoClip
from tests.factories import SAMPLING, tiny_components

FRAMES = 7
CHOSEN = SAMPLING.changed({"mask_threshold": 0.3, "expected_iou_weight": 0.5})


@pytest.fixture(scope="module")
def completer() -> AmodalCompleter:
    """Stage 1, which chooses a threshold for each frame."""
    parts = tiny_components()
    parts = replace(parts, settings=replace(parts.settings, sampling=CHOSEN))
    pipeline = AmodalSegmentationPipeline.from_components(parts)
    pipeline.set_progress_bar_config(disable=True)
    return AmodalCompleter(pipeline, None)


@pytest.fixture(scope="module")
def clip() -> VideoClip:
    modal = np.zeros((FRAMES, 40, 72), np.bool_)
    modal[:, 10:30, 20:40] = True
    rgb = np.random.default_rng(0).integers(0, 256, (*modal.shape, 3), dtype=np.uint8)
    return VideoClip(rgb, modal, cuts="none")


def cut(clip: VideoClip, scores: Sequence[FloatArray | None], config: CompletionConfig) -> AmodalResult:
    """Masks of frames with their scores, without a network."""
    frames = (replace(frame, score=score) for frame, score in zip(clip_frames(clip), scores, strict=True))
    objects = AmodalCompleter.without_networks().stream_objects(([frame] for frame in frames), [ObjectStream()], config)
    return join_results([result for _, result in objects])


def test_without_networks_there_are_no_weights_to_tell_apart() -> None:
    completer = AmodalCompleter.without_networks("owner/name")
    assert completer.fingerprints() == {}
    assert completer.default_depth_model == "owner/name"


@pytest.mark.parametrize("changes", [{}, {"mask_threshold": 0.51}, {"preset": "paper", "num_inference_steps": 1}])
def test_masks_are_those_that_the_network_led_to(completer: AmodalCompleter, clip: VideoClip, changes: dict) -> None:
    wanted = completer(clip, completer.config(**changes))
    sampled = {name: value for name, value in changes.items() if name != "mask_threshold"}
    scores = completer(clip, completer.config(**sampled)).score
    assert scores is not None
    found = cut(clip, scores, completer.config(**changes))
    np.testing.assert_array_equal(found.amodal_mask, wanted.amodal_mask)
    np.testing.assert_array_equal(found.score, scores)


def test_a_given_threshold_is_that_of_every_frame(completer: AmodalCompleter) -> None:
    for changes, wanted in (
        ({}, (0.3, 0.5)),
        ({"mask_threshold": 0.7}, (0.7, None)),
        ({"mask_threshold": 0.4, "expected_iou_weight": 1.0}, (0.4, 1.0)),
    ):
        config = completer.config(**changes).amodal_segmentation
        assert config is not None
        assert (config.mask_threshold, config.beyond.expected_iou_weight) == wanted


def test_a_score_of_another_size_and_a_frame_without_one(completer: AmodalCompleter, clip: VideoClip) -> None:
    config = completer.config()
    with pytest.raises(InputError, match=r"score: expected \[32, 64\], the size of the network, got \[8, 8\]"):
        cut(clip, [np.zeros((8, 8), np.float32)] * FRAMES, config)
    score = np.zeros((SAMPLING.height, SAMPLING.width), np.float32)
    with pytest.raises(InputError, match="stage 1 is not loaded, so every frame needs its amodal mask or its score"):
        cut(clip, [score, None, *[score] * (FRAMES - 2)], config)


def test_frames_with_known_masks_have_no_score(completer: AmodalCompleter, clip: VideoClip) -> None:
    frames = [FrameInput(frame.rgb, frame.modal, amodal=frame.modal) for frame in clip_frames(clip)]
    results = list(completer.stream(frames))
    assert not any(result.score is None or result.score.any() for result in results)
