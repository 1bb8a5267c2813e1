"""The benchmarks of sampling and of objects run to their end, on networks that are too small to say anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import tiny_completer_folder

ROOT = Path(__file__).resolve().parents[1]


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
        if line.startswith("| ") and not line.startswith(("| way", "| at once", "| ---"))
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
def test_a_table_of_solvers(tmp_path: Path) -> None:
    model = tiny_completer_folder(tmp_path / "model")
    few = ("--clips", "2", "--processes", "2", "--steps", "1", "2", "--few-steps", "2")
    text = printed("samplers.py", "--model", str(model), *few)
    table = rows(text)
    assert len(table) % 2 == 0  # with and without depth
    assert table[0][0] == "paper"
    assert table[0][1] == "50"
    assert float(table[0][4]) == 1.0
    passes = {row[0]: int(row[1]) for row in table}
    assert passes["heun 2"] == 3
    assert passes["dpmpp 2, views 4"] == 8
    assert passes["dpmpp 2, guidance 1.5, all steps"] == 4


@pytest.mark.slow
def test_objects_one_by_one_and_at_once(tmp_path: Path) -> None:
    model = tiny_completer_folder(tmp_path / "model")
    text = printed("objects.py", "--model", str(model), "--frames", "6", "--height", "36", "--repeats", "1")
    one, three = rows(text)
    assert (one[0], three[0]) == ("1", "3")
    assert one[2] == one[4] == "1.00"
    assert min(float(cell) for cell in three[1:]) > 0
