"""Methods by name, the scenes benchmark, and scoring them: order and company change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from amodal_diffusion.evaluation.benchmark import BenchmarkTrack, MaskTrack
from amodal_diffusion.evaluation.content import ContentScorer
from amodal_diffusion.evaluation.methods import BASELINES, Method, build_methods
from amodal_diffusion.evaluation.scenes import ScenesBenchmark
from amodal_diffusion.evaluation.scoring import score_methods
from amodal_diffusion.types import BoolArray, InputError, UInt8Array


class Guess:
    """Predicts and paints random pixels, from the track's seed alone."""

    name, learned, uses_depth = "guess", True, False

    def predict(self, track: BenchmarkTrack, *, sample: int = 0) -> BoolArray:
        return np.random.default_rng(track.seed(sample)).random(track.clip.modal_mask.shape) < 0.5

    def paint(self, track: MaskTrack) -> UInt8Array:
        return np.random.default_rng(track.seed()).integers(0, 256, track.clip.rgb.shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def tracks() -> list[MaskTrack]:
    benchmark = ScenesBenchmark("validation", clips=3)
    return [benchmark.track(index) for index in range(3)]


def test_scenes_come_with_all_truth(tracks: list[MaskTrack]) -> None:
    assert [track.clip.rgb.shape for track in tracks] == [(16, 64, 128, 3)] * 3
    for track in tracks:
        assert (track.amodal_mask >= track.clip.modal_mask).all()
        assert track.depth is not None
        assert track.whole_rgb is not None
    assert len({track.identity for track in tracks}) == len({track.seed() for track in tracks}) == 3


def test_a_seed_depends_on_the_identity_alone(tracks: list[MaskTrack]) -> None:
    again = ScenesBenchmark("validation", clips=2).track(1)
    assert again.seed() == tracks[1].seed()


def test_order_changes_no_score(tracks: list[MaskTrack]) -> None:
    methods: list[Method] = [Guess(), *build_methods(["modal"])]
    forward = score_methods(tracks, methods, content=ContentScorer())[0]
    backward = score_methods(reversed(tracks), methods[:1], content=ContentScorer())[0]
    for one, other in zip(forward.tracks, reversed(backward.tracks), strict=True):
        assert one.strict.miou == other.strict.miou
        np.testing.assert_equal(vars(one.content), vars(other.content))


def test_baselines_stand_in_their_known_order(tracks: list[MaskTrack]) -> None:
    scores = {score.name: score for score in score_methods(tracks, build_methods(BASELINES))}
    modal, hull, nearer = (scores[name] for name in ("modal", "hull", "hull-nearer"))
    assert modal.summary("strict").miou_occ.value == 0.0
    assert hull.summary("strict").miou_occ.value > 0.0
    assert nearer.summary("strict").miou.value >= modal.summary("strict").miou.value
    assert not np.isfinite(hull.content["psnr"].value)
    for gated in ("hull-nearer", "temporal-nearer", "temporal-hull-nearer"):
        free = scores[gated.removesuffix("-nearer")].summary("strict")
        assert scores[gated].summary("strict").invented <= free.invented
    union = scores["temporal-hull"].summary("strict").invented
    assert union >= max(scores[part].summary("strict").invented for part in ("temporal", "hull"))


def test_only_baselines_of_nearer_pixels_get_the_depth(tracks: list[MaskTrack]) -> None:
    without = [replace(track, depth=None) for track in tracks[:1]]
    for name in BASELINES:
        method = build_methods([name])
        if name.endswith("-nearer"):
            with pytest.raises(InputError, match="needs depth"):
                score_methods(without, method)
        else:
            (given,), (bare,) = score_methods(tracks[:1], method), score_methods(without, method)
            assert given.tracks[0].strict.miou == bare.tracks[0].strict.miou


def test_content_is_scored_where_something_is_hidden(tracks: list[MaskTrack]) -> None:
    (modal,) = score_methods(tracks, build_methods(["modal"]), content=ContentScorer())
    for track, score in zip(tracks, modal.tracks, strict=True):
        hides = bool((track.amodal_mask & ~track.clip.modal_mask).any())
        assert np.isfinite(score.content.psnr) == np.isfinite(score.content.ssim_object) == hides


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
