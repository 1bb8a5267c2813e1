"""Means, curves, rankings and thresholds of a run, on methods whose scores are known."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.methods import Method, build_methods
from amodal_diffusion.evaluation.report.tables import describe_verdict
from amodal_diffusion.evaluation.report.thresholds import CONTENT_THRESHOLDS, GainThreshold, ThresholdCheck
from amodal_diffusion.evaluation.results import SkippedTarget, TargetResult, json_text
from amodal_diffusion.evaluation.runner import Scorer
from amodal_diffusion.evaluation.scores import ContentScorer
from amodal_diffusion.evaluation.summary import BINS, RunSummary
from tests.squares import FRAMES, Guess, Squares, Sure

COUNT = 4


def results_of(
    methods: list[Method], *, boxes: bool = False, top_k: int = 1, paint: bool = False
) -> list[TargetResult]:
    scorer = Scorer(methods, top_k=top_k, content=ContentScorer() if paint else None)
    benchmark = Squares(COUNT, boxes=boxes)
    return [scorer.score(benchmark.track(index), index) for index in range(COUNT)]


def summary_of(methods: list[Method], **how: Any) -> RunSummary:
    summary = RunSummary(methods)
    for result in results_of(methods, **how):
        summary.add(result)
    return summary


def record_of(summary: RunSummary) -> dict[str, Any]:
    """As it is read back from its file."""
    record: dict[str, Any] = json.loads(json_text(summary.record()))
    return record


def methods_with(*learned: Method) -> list[Method]:
    return [*build_methods(["modal", "hull"]), *learned]


def test_the_truth_scores_one_and_the_visible_part_its_share() -> None:
    record = record_of(summary_of(methods_with(Sure(Squares(COUNT)))))
    assert record["tracks"] == {"scored": COUNT, "frames": COUNT * FRAMES, "skipped": {}}
    sure, modal = record["methods"]["sure"], record["methods"]["modal"]
    assert (sure["learned"], modal["learned"]) == (True, False)
    for protocol in ("strict", "released"):
        assert sure[protocol]["miou"] == 1.0
        assert sure[protocol]["miou_occ"] in (1.0, None)  # nothing is left of some hidden parts after the erosion
    assert sure["boundary_f"]["mean"] == 1.0
    assert sure["instability"]["mean"] == 0.0
    # Of 8 columns, (index % 3 + 1) more are hidden in each frame.
    shares = [1 - min(1, frame * (1 + index % 3) / 8) for index in range(COUNT) for frame in range(FRAMES)]
    assert modal["strict"]["miou"] == pytest.approx(np.mean(shares))
    assert modal["boxes"]["miou"] == pytest.approx(np.mean(shares))
    assert modal["strict"]["miou_occ"] == 0.0
    low, high = modal["strict"]["miou_interval"]
    assert low < modal["strict"]["miou"] < high


def test_samples_have_a_mean_and_a_best() -> None:
    record = record_of(summary_of(methods_with(Guess()), top_k=3))["methods"]
    guess = record["guess"]
    assert guess["samples"] == 3
    assert guess["best_of_samples"]["strict"]["miou"] > guess["strict"]["miou"]
    assert guess["best_of_samples"]["strict"]["frames"] * 3 == guess["strict"]["frames"]
    assert 0 < guess["calibration"]["expected_calibration_error"] < 1
    assert "best_of_samples" not in record["modal"]
    assert "calibration" not in record["modal"]


def test_content_has_means_over_tracks() -> None:
    record = record_of(summary_of(methods_with(Sure(Squares(COUNT))), paint=True))["methods"]
    assert record["sure"]["content"]["psnr"]["mean"] == 99.0
    assert record["hull"]["content"]["psnr"]["mean"] < 30
    assert record["hull"]["content"]["psnr"]["tracks"] == COUNT
    assert record["hull"]["frechet_video_distance"] is None


def test_boxes_alone() -> None:
    summary = summary_of(methods_with(Guess()), boxes=True, top_k=2)
    record = record_of(summary)
    assert record["ranking"]["measure"] == "box_iou"
    assert list(record["methods"]["modal"]) == ["learned", "uses_depth", "samples", "boxes"]
    best = record["methods"]["guess"]["best_of_samples"]["boxes"]
    assert best["miou"] >= record["methods"]["guess"]["boxes"]["miou"]
    assert record["thresholds"] == []


def test_a_track_left_out_is_in_no_mean_and_is_named() -> None:
    methods = methods_with()
    first, *others = results_of(methods)
    summary = RunSummary(methods)
    for result in others:
        summary.add(result)
    means = record_of(summary)["methods"]
    summary.add(SkippedTarget(0, first.identity, "is damaged"))
    record = record_of(summary)
    assert record["methods"] == means
    assert record["tracks"] == {
        "scored": COUNT - 1, "frames": (COUNT - 1) * FRAMES, "skipped": {"squares/0": "is damaged"}
    }  # fmt: skip


def test_the_ranking_begins_with_the_failure() -> None:
    summary = summary_of(methods_with(Sure(Squares(COUNT), misses=2)))
    record = record_of(summary)["ranking"]
    assert (record["method"], record["measure"]) == ("sure", "miou_occ")
    assert record["worst_first"] == ["squares/2", "squares/0", "squares/1", "squares/3"]  # equals stay in their order


def test_curves_put_frames_where_they_belong() -> None:
    curves = record_of(summary_of(methods_with(Sure(Squares(COUNT)))))["by_occlusion"]
    assert curves["percent_hidden"] == list(BINS) == ["0", "0-20", "20-40", "40-60", "60-80", "80-100", "100"]
    frames = [entry["frames"] for entry in curves["miou"]["modal"]]
    shares = [min(1, frame * (1 + index % 3) / 8) for index in range(COUNT) for frame in range(FRAMES)]
    edges = [(0, 0), (1e-9, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1 - 1e-9), (1, 1)]
    assert frames == [sum(low <= share <= high for share in shares) for low, high in edges]
    assert curves["miou"]["modal"][0]["value"] == 1.0
    assert curves["miou_occ"]["modal"][0]["value"] is None
    assert {entry["value"] for entry in curves["miou_occ"]["sure"]} == {1.0, None}


def test_each_threshold_meets_the_methods_it_is_for() -> None:
    methods = [*build_methods(["modal", "hull", "hull-nearer"]), Guess("bare"), Guess("deep", uses_depth=True)]
    verdicts = record_of(summary_of(methods))["thresholds"]
    outcome = {(verdict["baseline"], verdict["method"]) for verdict in verdicts if "baseline" in verdict}
    assert outcome == {("hull", "bare"), ("hull-nearer", "deep"), ("modal", "bare"), ("modal", "deep")}


def test_gains_are_paired_by_frame() -> None:
    benchmark = Squares(COUNT)
    verdicts = record_of(summary_of(methods_with(Sure(benchmark))))["thresholds"]
    occluded, whole = (verdict for verdict in verdicts if "baseline" in verdict)
    assert (occluded["measure"], occluded["baseline"], occluded["passed"]) == ("miou_occ", "hull", True)
    modal = record_of(summary_of(methods_with()))["methods"]["modal"]["strict"]["miou"]
    assert whole["gain"]["value"] == pytest.approx(1 - modal)
    methods = [Sure(benchmark), *build_methods(["modal"])]
    check = ThresholdCheck(methods, [GainThreshold("miou_occ", "modal", 1.0, with_depth=None)], [])
    for result in results_of(methods):
        check.add(result)
    (verdict,) = check.verdicts()
    assert verdict.passed  # 1 less 0 in every frame that hides something, so without an error
    assert verdict.value.standard_error == pytest.approx(0.0, abs=1e-12)


def test_painting_is_paired_by_track() -> None:
    methods = [Sure(Squares(COUNT)), *build_methods(["modal", "temporal"])]
    results = results_of(methods, paint=True)
    check = ThresholdCheck(methods, CONTENT_THRESHOLDS, [])
    for result in results:
        check.add(result)
    fill, copy = check.verdicts()
    assert [(verdict.threshold.baseline, verdict.passed) for verdict in (fill, copy)] == [
        ("modal", True),
        ("temporal", True),
    ]
    psnr = [[result.methods[name].content.psnr for name in ("sure", "modal")] for result in results]  # type: ignore[union-attr]
    assert fill.value.value == pytest.approx(np.nanmean([sure - modal for sure, modal in psnr]))
    assert "PSNR" in describe_verdict(fill.record())


def test_no_threshold_without_its_baseline() -> None:
    assert all("baseline" not in verdict for verdict in record_of(summary_of([Guess()]))["thresholds"])


def test_levels_look_at_tracks_that_hide_nothing() -> None:
    benchmark = Squares(COUNT)
    methods: list[Method] = [Sure(benchmark)]
    check, scorer, track = ThresholdCheck(methods, []), Scorer(methods), benchmark.track(1)
    assert isinstance(track, MaskTarget)
    check.add(scorer.score(track, 1))
    assert "open_miou" not in {verdict.threshold.measure for verdict in check.verdicts()}
    # The method gives the square where nothing of it is hidden: all it adds is invented.
    check.add(scorer.score(MaskTarget(identity=track.identity, clip=track.clip, amodal_mask=track.clip.modal_mask), 1))
    added = (track.amodal_mask & ~track.clip.modal_mask).sum() / track.clip.modal_mask.sum()
    found = {verdict.threshold.measure: verdict for verdict in check.verdicts()}
    assert found["open_invented"].value.value == pytest.approx(added)
    assert not found["open_invented"].passed
    assert 0 < found["open_miou"].value.value < 0.97


def test_nothing_hidden_ranks_by_the_whole_object() -> None:
    methods = methods_with()
    scorer, summary = Scorer(methods), RunSummary(methods)
    track = Squares().track(1)
    whole = type(track)(
        identity="whole",
        clip=track.clip,
        amodal_mask=track.clip.modal_mask,  # type: ignore[call-arg]
    )
    summary.add(scorer.score(whole, 0))
    assert summary.measure == "miou"
    assert math.isnan(summary.tracks[0].methods["modal"]["miou_occ"])
