"""Which model ships: the sum of both splits decides among models that paint with their network."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.synthetic.composites.made import made_cutouts
from recipes.tiny.score_candidates import Candidate, main, table
from tests.factories import tiny_completer_folder, tiny_cutouts_folder


def test_the_highest_sum_ships() -> None:
    text = table([Candidate("low", (0.3, 0.3)), Candidate("high", (0.3, 0.4))])
    assert [line.split(" | ")[0].strip("| ") for line in text.splitlines()[2:4]] == ["high", "low"]
    assert text.endswith("ships: high")


@pytest.mark.slow
def test_both_splits_are_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amodal_diffusion.data.composites.made_cutouts", lambda split, _: made_cutouts(split, 1))
    model, cutouts = tiny_completer_folder(tmp_path / "model"), tiny_cutouts_folder(tmp_path / "cutouts")
    command = [str(model), "--cutouts", str(cutouts), "--out", str(tmp_path / "out"), "--clips", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out.endswith(f"ships: {model}\n")
    assert main([str(tmp_path / "none"), *command[1:]]) == 2
    assert "none" in capsys.readouterr().err
