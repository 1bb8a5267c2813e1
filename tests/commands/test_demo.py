"""`amodal-diffusion demo`: the same files as `complete`, a contact sheet, and the scores against the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.evaluation.benchmarks.scenes import scene_track

SEED = 3


@pytest.fixture(scope="module")
def out(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    arguments = ["demo", "--out", str(folder), "--seed", str(SEED), "--model", str(model), "--device", "cpu", "-q"]
    assert main(arguments) == 0
    return folder


def test_the_files_of_complete_and_a_contact_sheet_are_there(out: Path) -> None:
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"contact_sheet.png", "overlay.mp4", "summary.json", "objects/1/completed/00015.png"} <= names
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert len(summary["objects"]["1"]["amodal_area"]) == 16
    assert min(Image.open(out / "contact_sheet.png").size) > 600


def test_the_scene_lies_beside_it_as_input(out: Path) -> None:
    scene, track = out.with_name("demo-scene"), scene_track(SEED)
    frames = [np.asarray(Image.open(path)) for path in sorted((scene / "frames").iterdir())]
    masks = [np.asarray(Image.open(path)) > 0 for path in sorted((scene / "masks").iterdir())]
    np.testing.assert_array_equal(np.stack(frames), track.clip.rgb)
    np.testing.assert_array_equal(np.stack(masks), track.clip.modal_mask)
    np.testing.assert_array_equal(np.load(scene / "depth.npy"), track.depth)


def test_a_second_run_prints_scores_and_needs_overwrite(
    out: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--out", str(out), "--seed", str(SEED), "--model", str(model), "--device", "cpu", "-q"]
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: out: ")
    assert main([*arguments, "--overwrite"]) == 0
    printed = capsys.readouterr().out
    for name in ("modal", "hull", "hull-nearer", str(model)):
        line = next(line for line in printed.splitlines() if line.startswith(f"{name} "))
        assert all(0.0 <= float(figure) <= 1.0 for figure in line.split()[1:])
