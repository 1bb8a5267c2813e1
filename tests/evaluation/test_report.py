"""Bars and the report, on two methods whose scores are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amodal_diffusion.evaluation.bars import judge
from amodal_diffusion.evaluation.report import format_table, format_verdicts, write_results
from amodal_diffusion.evaluation.scoring import MethodScore, TrackScore
from amodal_diffusion.evaluation.statistics import Tally


def method(
    name: str, miou: float, miou_occ: float, *, learned: bool = False, uses_depth: bool = False
) -> MethodScore:
    tracks = [
        TrackScore(
            identity=f"clip-{index}",
            seconds=0.5,
            miou=Tally((miou + shift) * 4, 4),
            miou_occ=Tally((miou_occ + shift) * 2, 2),
            released_miou=Tally(miou * 4, 4),
            released_miou_occ=Tally(miou_occ, 1),
            fully_hidden=Tally(),
            invented=Tally(),
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


def test_no_bar_without_its_baseline(scores: list[MethodScore]) -> None:
    assert judge(scores[3:]) == []


def test_table_has_a_row_a_method_and_names_what_is_missing(scores: list[MethodScore]) -> None:
    header, _, *rows = format_table(scores).splitlines()
    assert [cell.strip() for cell in header.split("|")[2:4]] == ["mIoU", "mIoU_occ"]
    assert "PSNR" not in header
    tiny = [cell.strip() for cell in rows[3].split("|")[1:-1]]
    assert tiny == [
        "tiny",
        "0.800 ± 0.050",
        "0.520 ± 0.050",
        "-",
        "-",
        "0.800 ± 0.000",
        "0.520 ± 0.000",
        "0.50",
    ]


def test_verdicts_say_by_how_much(scores: list[MethodScore]) -> None:
    lines = format_verdicts(judge(scores)).splitlines()
    assert lines[0] == "pass  tiny: miou_occ +0.120 ± 0.000 over hull, bar +0.10"
    assert lines[1].startswith("FAIL  tiny@depth: miou_occ +0.040")


def test_results_are_valid_json_without_nan(scores: list[MethodScore], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, scores, benchmark="scenes/test-v1", verdicts=judge(scores))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["methods"]["tiny"]["means"]["miou"]["value"] == pytest.approx(0.8)
    assert content["methods"]["tiny"]["means"]["fully_hidden"]["value"] is None
    assert content["methods"]["tiny"]["tracks"][1]["identity"] == "clip-1"
    assert [bar["passed"] for bar in content["bars"]] == [True, False, True, True]
