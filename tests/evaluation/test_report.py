"""Bars and the report, on methods whose scores are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.evaluation.bars import judge
from amodal_diffusion.evaluation.content import ContentScores
from amodal_diffusion.evaluation.report import format_table, format_verdicts, write_results
from amodal_diffusion.evaluation.scoring import MethodScore, TrackScore
from amodal_diffusion.metrics import FrameScores, TrackScores


def track_scores(miou: float, miou_occ: float) -> TrackScores:
    empty = np.full(4, np.nan)
    frames = FrameScores(
        iou=np.full(4, miou),
        occluded_iou=np.asarray([miou_occ, miou_occ, np.nan, np.nan]),
        hidden_iou=empty,
        invented=empty,
        visible=empty,
    )
    return TrackScores(frames, miou, miou_occ, math.nan, math.nan)


def method(
    name: str, miou: float, miou_occ: float, *, learned: bool = False, uses_depth: bool = False, psnr: float = math.nan
) -> MethodScore:
    tracks = [
        TrackScore(
            identity=f"clip-{index}",
            seconds=0.5,
            strict=track_scores(miou + shift, miou_occ + shift),
            released=track_scores(miou, miou_occ),
            content=ContentScores(psnr=psnr),
        )
        for index, shift in enumerate((-0.05, 0.05))
    ]
    return MethodScore(name, learned, uses_depth, tracks)


@pytest.fixture
def scores() -> list[MethodScore]:
    return [
        method("modal", 0.60, 0.00),
        method("hull", 0.70, 0.40),
        method("hull-nearer", 0.72, 0.50, uses_depth=True),
        method("tiny", 0.80, 0.52, learned=True),
        method("tiny@depth", 0.85, 0.54, learned=True, uses_depth=True),
    ]


def test_each_bar_meets_the_methods_it_is_for(scores: list[MethodScore]) -> None:
    outcome = {(verdict.bar.baseline, verdict.method): verdict.passed for verdict in judge(scores)}
    assert outcome == {
        ("hull", "tiny"): True,
        ("hull-nearer", "tiny@depth"): False,
        ("modal", "tiny"): True,
        ("modal", "tiny@depth"): True,
    }


def test_gain_is_paired_by_frame(scores: list[MethodScore]) -> None:
    gain = scores[3].gain(scores[1], "miou_occ")
    assert gain.value == pytest.approx(0.12)
    assert gain.standard_error == pytest.approx(0.0, abs=1e-12)
    assert scores[3].summary("strict").miou_occ.standard_error == pytest.approx(0.05)


def test_no_bar_without_its_baseline(scores: list[MethodScore]) -> None:
    assert judge(scores[3:]) == []


def test_table_has_a_row_a_method_and_a_dash_where_nothing_counts(scores: list[MethodScore]) -> None:
    header, _, *rows = format_table(scores).splitlines()
    assert [cell.strip() for cell in header.split("|")[2:4]] == ["mIoU", "mIoU_occ"]
    assert "PSNR" not in header
    tiny = [cell.strip() for cell in rows[3].split("|")[1:-1]]
    assert tiny == ["tiny", "0.800 ± 0.050", "0.520 ± 0.050", "-", "-", "0.800 ± 0.000", "0.520 ± 0.000", "0.50"]


def test_table_has_painted_content_where_it_was_scored(scores: list[MethodScore]) -> None:
    header, _, *rows = format_table([scores[0], method("painter", 0.6, 0.1, psnr=18.5)]).splitlines()
    assert header.rstrip(" |").endswith("hidden PSNR, dB")
    assert rows[1].rstrip(" |").endswith("18.50 ± 0.00")


def test_verdicts_say_by_how_much(scores: list[MethodScore]) -> None:
    lines = format_verdicts(judge(scores)).splitlines()
    assert lines[0] == "pass  tiny: miou_occ +0.120 ± 0.000 over hull, bar +0.10"
    assert lines[1].startswith("FAIL  tiny@depth: miou_occ +0.040")


def test_results_are_valid_json_without_nan(scores: list[MethodScore], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, scores, benchmark="scenes/test-v1", verdicts=judge(scores))
    content = json.loads(path.read_text(encoding="utf-8"))
    tiny = content["methods"]["tiny"]
    assert tiny["strict"]["miou"]["value"] == pytest.approx(0.8)
    assert tiny["strict"]["miou_hidden"]["value"] is None
    assert tiny["tracks"][1]["identity"] == "clip-1"
    assert tiny["tracks"][1]["strict"]["miou"] == pytest.approx(0.85)
    assert [bar["passed"] for bar in content["bars"]] == [True, False, True, True]
