"""Methods by name, the scenes benchmark, and scoring a track: order and company change nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import BoxTarget, MaskTarget
from amodal_diffusion.evaluation.benchmarks.scenes import ScenesBenchmark
from amodal_diffusion.evaluation.methods import BASELINES, build_methods
from amodal_diffusion.evaluation.results import TargetResult
from amodal_diffusion.evaluation.runner import Scorer, occlusion_of
from amodal_diffusion.evaluation.scores import BoxScores, ContentScorer, MaskScores
from amodal_diffusion.evaluation.summary import RunSummary
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.metrics import score_track
from amodal_diffusion.models.perceptual import VideoFeatures
from tests.factories import tiny_video_features
from tests.squares import Guess, Squares


@pytest.fixture(scope="module")
def tracks() -> list[MaskTarget]:
    benchmark = ScenesBenchmark("validation", clips=2)
    return [benchmark.track(index) for index in range(2)]


def square(index: int = 1) -> MaskTarget:
    track = Squares().track(index)
    assert isinstance(track, MaskTarget)
    return track


def same(one: TargetResult, other: TargetResult, method: str) -> bool:
    first, second = one.methods[method], other.methods[method]
    assert str(first.content) == str(second.content)  # as text, NaN equals itself
    return [sample.masks for sample in first.samples] == [sample.masks for sample in second.samples]


def test_scenes_come_with_all_truth(tracks: list[MaskTarget]) -> None:
    assert [track.clip.rgb.shape for track in tracks] == [(16, 64, 128, 3)] * 2
    for track in tracks:
        assert (track.amodal_mask >= track.clip.modal_mask).all()
        assert track.depth is not None
        assert track.amodal_rgb is not None
    assert len({track.identity for track in tracks}) == len({track.seed() for track in tracks}) == 2


def test_a_seed_depends_on_the_identity_and_the_sample_alone(tracks: list[MaskTarget]) -> None:
    again = ScenesBenchmark("validation", clips=2).track(1)
    assert again.seed() == tracks[1].seed()
    assert len({again.seed(sample) for sample in range(5)}) == 5


def test_neither_order_nor_company_changes_a_prediction() -> None:
    tracks = [square(index) for index in range(3)]
    among = Scorer([*build_methods(["hull"]), Guess()], top_k=2, content=ContentScorer())
    alone = Scorer([Guess()], top_k=2, content=ContentScorer())
    forward = [among.score(track, index) for index, track in enumerate(tracks)]
    backward = [alone.score(track, index) for index, track in reversed(list(enumerate(tracks)))]
    assert all(same(one, other, "guess") for one, other in zip(forward, reversed(backward), strict=True))


def test_only_learned_methods_give_several_samples() -> None:
    result = Scorer([*build_methods(["modal"]), Guess()], top_k=3).score(square(), 0)
    assert {name: len(method.samples) for name, method in result.methods.items()} == {"modal": 1, "guess": 3}
    assert result.methods["modal"].calibration is None
    guess = result.methods["guess"]
    assert len({str(sample.masks) for sample in guess.samples}) == 3
    assert guess.calibration is not None
    assert guess.calibration[0].sum() == (~square().clip.modal_mask).sum()  # each pixel that is not visible, once


def test_masks_that_are_kept_are_those_that_were_scored() -> None:
    track = square()
    result = Scorer([Guess()]).score(track, 0)
    (sample,) = result.methods["guess"].samples
    kept = np.stack([decode_rle(mask) for mask in sample.masks])
    assert (kept >= track.clip.modal_mask).all()
    assert isinstance(sample.scores, MaskScores)
    expected = score_track(kept, track.clip.modal_mask, track.amodal_mask)
    np.testing.assert_equal(sample.scores.protocols["strict"].frames.iou, expected.frames.iou)


def test_occlusion_of_a_track_by_hand() -> None:
    track = square(1)  # a column of 8 is hidden, and one more in each frame: 2 a frame
    np.testing.assert_allclose(occlusion_of(track), [0, 2 / 8, 4 / 8, 6 / 8])
    empty = replace(track, amodal_mask=np.zeros_like(track.amodal_mask))
    assert np.isnan(occlusion_of(empty)).all()


def test_boxes_alone_are_scored_where_they_are_the_truth() -> None:
    track = Squares(boxes=True).track(1)
    assert isinstance(track, BoxTarget)
    track.amodal_boxes[3, 2:] = 0  # not in the frame
    result = Scorer(build_methods(["modal"]), content=ContentScorer()).score(track, 0)
    (sample,) = result.methods["modal"].samples
    assert isinstance(sample.scores, BoxScores)
    np.testing.assert_allclose(sample.scores.box_iou, [1, 6 / 8, 4 / 8, math.nan])
    assert result.occlusion is None
    assert result.methods["modal"].content is None


def test_baselines_stand_in_their_known_order(tracks: list[MaskTarget]) -> None:
    methods = build_methods(BASELINES)
    summary, scorer = RunSummary(methods), Scorer(methods)
    summary.add(scorer.score(tracks[0], 0))
    strict = {name: record["strict"] for name, record in summary.record()["methods"].items()}  # type: ignore[attr-defined]
    assert strict["modal"]["miou_occ"] == 0.0
    assert strict["hull"]["miou_occ"] > 0.0
    assert strict["hull-nearer"]["miou"] >= strict["modal"]["miou"]
    for gated in ("hull-nearer", "temporal-nearer", "temporal-hull-nearer"):
        assert strict[gated]["invented"] <= strict[gated.removesuffix("-nearer")]["invented"]
    assert strict["temporal-hull"]["invented"] >= max(strict[part]["invented"] for part in ("temporal", "hull"))


@pytest.mark.parametrize("name", BASELINES)
def test_only_baselines_of_nearer_pixels_get_the_depth(name: str) -> None:
    without = Squares(depth=False).track(1)
    scorer = Scorer(build_methods([name]))
    if name.endswith("-nearer"):
        with pytest.raises(InputError, match=rf"methods: {name}: need depth, and squares/1 has none"):
            scorer.check(without)
    else:
        scorer.check(without)
        assert same(scorer.score(square(1), 1), scorer.score(without, 1), name)


def test_content_is_scored_where_something_is_hidden(tmp_path: Path) -> None:
    content = ContentScorer(features=VideoFeatures(tiny_video_features(tmp_path)))
    scorer = Scorer(build_methods(["modal"]), content=content)
    hides = scorer.score(square(), 0)
    result = hides.methods["modal"]
    assert result.content is not None
    assert math.isfinite(result.content.psnr)
    assert result.features is not None
    assert hides.true_features is not None
    assert result.features.shape == hides.true_features.shape
    shown = scorer.score(replace(square(), amodal_mask=square().clip.modal_mask), 0)
    assert shown.methods["modal"].content is None
    assert shown.true_features is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["modal", "modal"], "methods: expected each method once, got modal"),
        ([], "methods: expected each method once, got none"),
        (["hull@depth"], "methods: hull@depth: @depth is for models; hull is a baseline"),
        (["no-such-model"], "no-such-model"),
    ],
)
def test_a_wrong_list_of_methods_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_methods(names)
