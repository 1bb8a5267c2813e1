"""`amodal-diffusion configs`: all files as they are shipped, and nothing of the user's is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.cli import main
from amodal_diffusion.parsing import load_settings
from amodal_diffusion.training.settings import TrainingSettings

SHIPPED = Path(__file__).resolve().parents[2] / "configs"


def test_all_shipped_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "configs"
    assert main(["configs", str(out)]) == 0
    files = [path.relative_to(SHIPPED) for path in sorted(SHIPPED.rglob("*.yaml"))]
    assert capsys.readouterr().out.splitlines() == [str(out / file) for file in files]
    assert Path("accelerate/cpu_two_processes.yaml") in files
    assert all((out / file).read_bytes() == (SHIPPED / file).read_bytes() for file in files)
    assert load_settings(TrainingSettings, out / "debug_cpu.yaml").output == Path("runs/debug")


def test_files_of_the_users_own_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "debug_cpu.yaml"
    mine.write_text("steps: 7")
    for out in (tmp_path, mine):
        assert main(["configs", str(out)]) == 2
        assert capsys.readouterr().err.startswith("error: OUT: expected a new or empty folder, got ")
    assert [path.name for path in tmp_path.iterdir()] == ["debug_cpu.yaml"]
    assert mine.read_text() == "steps: 7"
