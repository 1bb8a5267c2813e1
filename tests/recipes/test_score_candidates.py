"""Which model ships: the sum of both splits decides among models that paint with their network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from amodal_diffusion.config import BeyondPaper
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.synthetic.composites.made import made_cutouts
from amodal_diffusion.types import STAGES
from recipes.tiny.score_candidates import Candidate, main, painted_by_network, table
from tests.factories import SAMPLING, tiny_completer_folder, tiny_components, tiny_cutouts_folder


def test_the_highest_sum_ships_if_its_network_paints() -> None:
    candidates = [Candidate("low", (0.3, 0.3), True), Candidate("high", (0.3, 0.4), True)]
    text = table([*candidates, Candidate("copies", (0.5, 0.5), False)])
    rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines()[2:5]]
    assert rows == ["high", "low", "copies"]
    assert text.endswith("ships: high")
    assert table([Candidate("copies", (0.5, 0.5), False)]).endswith("ships: none of them")


def test_whether_the_network_paints(tmp_path: Path) -> None:
    for name, weight, painted in (("copies", 0.0, False), ("paints", 1.0, True)):
        beyond = BeyondPaper(color_propagation=True, blend_weight=weight)
        sampling = replace(SAMPLING, beyond=beyond)
        stages = [tiny_components(stage) for stage in STAGES]
        changed = [replace(part, settings=replace(part.settings, sampling=sampling)) for part in stages]
        save_model(changed, tmp_path / name)
        assert painted_by_network(str(tmp_path / name)) is painted


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
