"""The report: tables, Markdown, plots, the contact sheet, and a page with all its pictures in it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.methods import Method, build_methods
from amodal_diffusion.evaluation.report.tables import Cell, format_tables, format_verdicts, markdown, tables
from amodal_diffusion.evaluation.runner import Provenance, Run, Scorer
from amodal_diffusion.io.result_folder import OutputFolder
from tests.squares import Guess, Squares, Sure

COUNT = 12


def finished(path: Path, benchmark: Squares, methods: list[Method], *, top_k: int = 1) -> tuple[Path, dict[str, Any]]:
    folder = OutputFolder(path, inputs={}, settings={})
    run = Run(benchmark, Scorer(methods, top_k=top_k), folder.work, "skip")
    provenance = Provenance(
        {"top_k": top_k, "models": {"<b>": None}}, "amodal-diffusion evaluate --out DIR", [], 1, "cpu"
    )
    with folder.opened():
        run.score(run.begin(folder))
        return path, run.finish(provenance, folder).summary


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    benchmark = Squares(COUNT, bad=3)
    methods = [*build_methods(["modal", "hull"]), Guess(), Sure(Squares(COUNT), misses=7)]
    return finished(tmp_path_factory.mktemp("masks") / "out", benchmark, methods, top_k=3)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return finished(tmp_path_factory.mktemp("boxes") / "out", Squares(3, boxes=True), build_methods(["modal", "hull"]))


def test_a_cell_says_what_it_has() -> None:
    assert Cell(0.5, 0.01, (0.48, 0.52)).full == "0.500 ± 0.010 [0.480, 0.520]"
    assert Cell(0.5).full == Cell(0.5).brief == "0.500"
    assert Cell().full == Cell(tracks=(0, 3)).full == "-"
    assert Cell(0.5, 0.01, (0.48, 0.52), tracks=(2, 3)).full == "0.500 ± 0.010 [0.480, 0.520] (2/3)"
    assert Cell(0.5, 0.01, tracks=(2, 3)).brief == "0.500 ± 0.010 (2/3)"


def test_intervals_of_few_tracks_end_where_a_score_does() -> None:
    strict = {"miou": 0.6, "miou_standard_error": 0.2, "miou_interval": [-2.31, 3.521], "miou_tracks": 2}
    record = {"samples": 1, "strict": strict, "content": {"psnr": {"mean": 9.0, "mean_interval": [-2.0, 20.0]}}}
    masks, content = tables({"methods": {"hull": record}, "tracks": {"scored": 5}})
    assert masks.rows[0][1][0].full == "0.600 ± 0.200 [0.000, 1.000] (2/5)"
    assert content.rows[0][1][0].range == "[-2.00, 20.00]"


def test_tables_have_a_row_a_method_and_two_for_samples(masks: tuple[Path, dict[str, Any]]) -> None:
    strict, released, of_boxes, calibration = tables(masks[1])
    names = [name for name, _ in strict.rows]
    assert names == ["modal", "hull", "guess, mean of 3", "guess, best of 3", "sure, mean of 3", "sure, best of 3"]
    assert strict.columns[:2] == ("mIoU", "mIoU_occ")
    assert released.columns == ("mIoU", "mIoU_occ", "fully hidden")
    assert of_boxes.columns[0] == "box IoU"
    assert [name for name, _ in calibration.rows] == ["guess", "sure"]
    printed = format_tables(masks[1])
    assert "| modal " in printed
    assert "[" not in printed


def test_boxes_have_their_table_alone(boxes: tuple[Path, dict[str, Any]]) -> None:
    (table,) = tables(boxes[1])
    assert table.columns == ("box IoU", "above 0.25", "above 0.5", "above 0.75")


def test_verdicts_say_by_how_much(masks: tuple[Path, dict[str, Any]]) -> None:
    lines = format_verdicts(masks[1]["thresholds"]).splitlines()
    assert any(line.startswith("FAIL  guess: mIoU_occ ") and "over hull, threshold +0.20" in line for line in lines)
    assert any(line.startswith("pass  sure: mIoU_occ +") for line in lines)


def test_the_summary_says_what_was_left_out_and_how_to_repeat_it(masks: tuple[Path, dict[str, Any]]) -> None:
    text = (masks[0] / "summary.md").read_text(encoding="utf-8")
    assert text == markdown(masks[1])
    assert "11 track(s) with 44 frames scored, 1 left out" in text
    assert "`squares/3`: frame 2 of 3: is damaged" in text
    assert "amodal-diffusion evaluate --out DIR" in text
    assert re.search(r"\| sure, mean of 3 +\| 0\.\d{3} ± 0\.\d{3} \[0\.\d{3}, 1\.000\] +\|", text)


def test_the_page_holds_its_pictures_and_names_no_host(masks: tuple[Path, dict[str, Any]]) -> None:
    page = (masks[0] / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img src="([^"]*)"', page)
    assert len(sources) == 3 + 4 + 4  # plots; the worst; two in the middle, two best
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in sources)
    without = re.sub(r'"data:image/[^"]*"', "", page)
    assert not re.search(r"https?:|//|<script|<link|url\(|@import", without)
    assert "<b>" not in without.replace("<figcaption><b>", "")  # what comes from outside is escaped
    worst = masks[1]["ranking"]["worst_first"]
    places = [without.index(f"{rank}. {identity}") for rank, identity in enumerate(worst, 1)]
    assert places == sorted(places)
    assert "frame 2 of 3: is damaged" in without


def test_the_page_of_boxes_shows_them(boxes: tuple[Path, dict[str, Any]]) -> None:
    page = (boxes[0] / "report.html").read_text(encoding="utf-8")
    assert "box IoU of hull" in page
    assert sorted(file.name for file in (boxes[0] / "plots").iterdir()) == ["tracks.png"]


def test_plots_and_sheets_are_pictures(masks: tuple[Path, dict[str, Any]]) -> None:
    for name in ("plots/iou_by_occlusion.png", "plots/tracks.png", "plots/reliability.png", "contact_sheet.jpg"):
        picture = Image.open(io.BytesIO((masks[0] / name).read_bytes()))
        assert min(picture.size) > 300
        assert np.asarray(picture.convert("L")).std() > 5


def test_the_tracks_own_files_are_gone(masks: tuple[Path, dict[str, Any]]) -> None:
    names = {file.name for file in masks[0].iterdir()}
    assert names == {
        "contact_sheet.jpg", "manifest.json", "plots", "report.html", "results.json", "summary.json", "summary.md",
        "timing.json",
    }  # fmt: skip


def test_nothing_scored_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no track could be scored, the first, squares/0, because frame 2 of 0"):
        finished(tmp_path / "out", Squares(1, bad=0), build_methods(["modal"]))
