"""Benchmarks run to their end, those of sampling and training too small to say anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks._minutes import State, plan
from tests.factories import tiny_completer_folder

ROOT = Path(__file__).resolve().parents[1]


READS = ("frames and masks", "masks alone")


def printed(script: str, *arguments: str) -> str:
    """What a script prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def rows(text: str) -> list[list[str]]:
    """Cells of all rows of all tables, heads aside."""
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith(("| way", "| at once", "| row |", "| ---"))
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.slow
def test_the_reference_agrees_with_itself_and_does_the_most() -> None:
    text = printed("sampling.py", "--size", "smallest", "--clips", "1", "--repeats", "1")
    table = rows(text)
    assert [row[0] for row in table] == ["reference", "fast", "default"] * 2
    for stage in (table[:3], table[3:]):
        operations = [float(row[7]) for row in stage]
        assert operations[0] > operations[2] > operations[1] >= 0
    assert [float(cell) for cell in table[0][10:12]] == [1.0, 1.0]
    assert "fast, denoise: " in text


@pytest.mark.slow
def test_a_table_of_a_gpu_without_one(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    small = ("--size", "smallest", "--device", "cpu", "--repeats", "1", "--frames", "2", "--out", str(out))
    table = rows(printed("gpu.py", *small))
    names = [row[0] for row in table]
    assert names[0].startswith("reference")
    assert names[-1].startswith("complete --preset paper")
    for row in table:
        if "--cuda-graphs" in row[0]:
            assert row[1].startswith("--cuda-graphs: needs a CUDA device")
        else:
            assert float(row[1]) > 0
            assert float(row[8]) > 0
    stage = {row[0]: row for row in table[:6]}
    paper, default = stage["paper, bf16"], stage["default, bf16"]
    assert float(paper[6]) == float(table[0][6]) > float(default[6])  # operations
    assert float(default[2]) < float(paper[2])  # denoising
    kept = json.loads(out.read_text())
    assert [row["name"] for row in kept["rows"]] == names
    assert rows(out.with_suffix(".md").read_text()) == table


@pytest.mark.slow
def test_a_table_that_has_no_time_left_says_so() -> None:
    table = rows(printed("gpu.py", "--size", "smallest", "--device", "cpu", "--seconds", "0", "--compile", "true"))
    assert {row[1] for row in table} == {"left out: no time"}
    assert any(row[0].endswith("--compile --cuda-graphs") for row in table)


@pytest.mark.slow
def test_a_table_of_solvers(tmp_path: Path) -> None:
    model = tiny_completer_folder(tmp_path / "model")
    few = ("--scenes", "2", "--processes", "2", "--steps", "1", "2", "--few-steps", "2")
    text = printed("samplers.py", "--model", str(model), *few)
    table = rows(text)
    assert len(table) % 2 == 0  # with and without depth
    assert table[0][0] == "paper"
    assert table[0][1] == "50"
    assert float(table[0][4]) == 1.0
    passes = {row[0]: int(row[1]) for row in table}
    assert passes["heun 2"] == 3
    assert passes["dpmpp 2, tta 4"] == 8
    assert passes["dpmpp 2, guidance 1.5, all steps"] == 4


@pytest.mark.slow
def test_samples_by_the_papers_way_are_kept_by_scene(tmp_path: Path) -> None:
    model, kept = tiny_completer_folder(tmp_path / "model"), tmp_path / "kept"
    few = (
        "--model",
        str(model),
        "--scenes",
        "2",
        "--samples",
        "3",
        "--steps",
        "2",
        "--depth",
        "given",
        "--keep",
        str(kept),
    )
    text = printed("paper_preset.py", *few)
    files = sorted(kept.iterdir())
    assert [file.name[:14] for file in files] == ["000_3x2_given_", "001_3x2_given_"]
    assert re.search(r"below the default by -?\d+\.\d+, wanted at most 0.03: (pass|FAIL)", text)
    assert re.search(r"spread, fully hidden: \d+\.\d+, wanted at least 0.05: (pass|FAIL)", text)
    with np.load(files[1]) as scene:
        assert scene["samples"].shape == (3, *scene["mean"].shape)
        assert (scene["samples"][0] != scene["samples"][1]).any()
        wrong = dict(scene) | {"mean": np.zeros_like(scene["mean"])}
    np.savez(files[1], **wrong)
    again = printed("paper_preset.py", *few).splitlines()  # the kept masks count, nothing is sampled again
    assert again[0] == text.splitlines()[0]
    assert again[1].endswith("0.000 by the paper's way")


@pytest.mark.slow
def test_ablations_are_kept_by_row(tmp_path: Path) -> None:
    budget = ("--out", str(tmp_path), "--steps", "2", "--clips", "4", "--scenes", "1", "--sampling_steps", "[1]")
    names = ["conditions dropped, 0.1", "conditions dropped, 0.1, guidance 1.5"]
    first = rows(printed("ablations.py", *budget, "--rows", json.dumps(names)))[1:]
    assert [row[0] for row in first] == names
    assert all(re.fullmatch(r"0\.\d{3} ± nan / 0\.\d{3}", cell) for row in first for cell in row[1:3])
    assert first[0][1:3] != first[1][1:3]  # the same weights under guidance
    assert float(first[1][3]) < float(first[0][3])  # and so not trained again
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(list(tmp_path.glob("*/row.json"))) == len(names)
    assert rows(printed("ablations.py", *budget, "--rows", json.dumps(names)))[1:] == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == kept


@pytest.mark.slow
def test_layers_put_back_of_one_scene() -> None:
    scene, total = printed("recomposition.py", "--scenes", "1").splitlines()
    name, _, found = scene.partition(", 5 objects: ")
    assert (name, total) == ("validation-000000", f"1 scenes, 5 objects: {found}")
    [(differing, right, pairs)] = re.findall(r"([\d.]+)% of \d+ visible .* true in (\d+) of (\d+) pairs", found)
    assert float(differing) < 5
    assert 0.8 * int(pairs) < int(right) <= int(pairs)


@pytest.mark.slow
def test_objects_one_by_one_and_at_once(tmp_path: Path) -> None:
    model = tiny_completer_folder(tmp_path / "model")
    text = printed("objects.py", "--model", str(model), "--frames", "6", "--height", "36", "--repeats", "1")
    one, three = rows(text)
    assert (one[0], three[0]) == ("1", "3")
    assert one[2] == one[4] == "1.00"
    assert min(float(cell) for cell in three[1:]) > 0


@pytest.mark.slow
def test_a_table_of_methods_is_trained_once(tmp_path: Path) -> None:
    work, table = tmp_path / "work", tmp_path / "methods.md"
    few = ("--out", str(work), "--table", str(table), "--steps", "2", "--limit", "2")
    printed("methods.py", *few)
    page = table.read_text(encoding="utf-8")
    trained = ["c2f-seg", "s-amodal", "sameo", "diffusion"]
    scored = ["modal", "hull", "temporal", *trained, "tiny (trained longer)"]
    heads = [row[0] for row in rows(page)]
    parts = ["c2f-seg", "c2f-seg", "s-amodal", "s-amodal", "sameo", "diffusion", "diffusion"]
    by_occlusion = ["method", *scored, "frames"]
    assert heads == ["method", *scored, *by_occlusion, *by_occlusion, "method", *parts]
    assert all(f"- **{name}**: The published method" in page for name in trained)
    training = rows(page)[-len(parts) :]
    assert [row[3] for row in training] == ["2", "2", "2", "2", "2", "2 clips encoded", "2"]
    assert all(float(row[4]) > 0 for row in training)
    assert [row[2] == "-" or float(row[2]) > 0 for row in training] == [True] * len(parts)
    kept = {path: path.stat().st_mtime_ns for name in trained for path in (work / name).rglob("*")}
    printed("methods.py", *few)
    assert {path: path.stat().st_mtime_ns for name in trained for path in (work / name).rglob("*")} == kept
    assert rows(table.read_text(encoding="utf-8"))[-len(parts) :] == training


@pytest.mark.parametrize("processor_share", [1.0, 0.5])
def test_pieces_spend_the_minutes(processor_share: float) -> None:
    start, step = 8.0, 0.3  # seconds of a processor
    state, last = State(budget=300.0, steps=None, seed=0), False
    while not last:
        total, minutes, last = plan(state)
        fits = total if minutes is None else state.done + int(60 * minutes * processor_share / step)
        done = min(total, fits)
        state.pieces.append((done, state.spent + start + (done - state.done) * step))
    assert len(state.pieces) == 4
    assert state.spent == pytest.approx(300.0, rel=0.02)


@pytest.mark.slow
def test_shards_and_folders_give_samples(tmp_path: Path) -> None:
    size = ("--tracks", "2", "--frames", "2", "--height", "32", "--width", "48", "--epochs", "1")
    text = printed("shards.py", *size, "--out", str(tmp_path / "out"))
    table = rows(text)[1:]
    assert [row[:2] for row in table] == [[kind, read] for kind in ("jpg", "png", "bmp") for read in READS]
    assert all(float(cell) > 0 for row in table for cell in row[2:6])


@pytest.mark.slow
def test_many_clips_lose_nothing_and_a_long_list_takes_little_memory() -> None:
    few = ("--clips", "6", "--drill-clips", "8", "--kills", "1", "--lines", "100000")
    table = [row for row in rows(printed("scale.py", *few)) if row[0] not in ("engine", "lines", "workers killed")]
    assert [(row[0], row[-1]) for row in table[:3]] == [
        ("one process", "True"),
        ("accelerate launch", "True"),
        ("ray", "True"),
    ]
    short, long = (float(row[1]) for row in table[3:5])
    assert long - short < 20  # MiB; a tenth of what a million lines may take
    assert table[5] == ["1", "1", "1", "8", "0", "0", "0", "0"]
