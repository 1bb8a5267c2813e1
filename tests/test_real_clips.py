"""The check on real clips: what is drawn and when, how hidden parts are scored, and the script on a tiny clip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from benchmarks.real_clips import COVERED, Occluders, Row, hidden_iou, paste_occluder, table, verdicts
from tests.factories import tiny_completer_folder, tiny_cutouts_folder
from tests.media import encode, write_masks
from tests.tracks import square

ROOT = Path(__file__).resolve().parents[1]


def _clip(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    mask = square(4, size, [(20, 20), (20, 22), (21, 24), (22, 26)], side=20)
    rgb = np.random.default_rng(0).integers(0, 255, (4, size, size, 3), dtype=np.uint8)
    return rgb, mask


def test_an_occluder_is_drawn_until_it_covers_enough_and_follows_from_the_seed(tmp_path: Path) -> None:
    occluders = Occluders(tiny_cutouts_folder(tmp_path), own=True)
    rgb, mask = _clip()
    for seed in range(4):
        pasted = paste_occluder(rgb, mask, occluders, seed)
        share = ((pasted.paste & mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2))).mean()
        assert COVERED[0] <= pasted.covered == share <= COVERED[1]
        assert (pasted.rgb[~pasted.paste] == rgb[~pasted.paste]).all(axis=1).mean() > 0.9
        again = paste_occluder(rgb, mask, occluders, seed)
        np.testing.assert_array_equal(pasted.rgb, again.rgb)
        assert pasted.drawn == again.drawn
    with pytest.raises(InputError, match=r"lacks \d+ of test-v2's cut-outs, such as .*give --own-cutouts"):
        Occluders(tmp_path)
    (tmp_path / "index.json").write_text('{"cutouts": [], "versions": {}}')
    with pytest.raises(InputError, match="no cut-out of test-v2's categories"):
        Occluders(tmp_path, own=True)


def test_hidden_parts_are_scored_under_the_paste() -> None:
    mask, paste = np.zeros((3, 4, 8), np.bool_), np.zeros((3, 4, 8), np.bool_)
    mask[:, :, 1:5], paste[:2, :, 3:7] = True, True  # hidden: 8 pixels of each of two frames
    predicted = mask.copy()
    predicted[:, :, 0] = True  # outside the paste: not counted
    assert hidden_iou(predicted, mask, paste) == 1.0
    predicted[0, :, 5] = True  # 4 more under the paste
    predicted[1, :, 4] = False  # 4 fewer
    assert hidden_iou(predicted, mask, paste) == pytest.approx((8 / 12 + 4 / 8) / 2)


def test_verdicts_compare_with_the_better_baseline_of_each_clip() -> None:
    def row(model: float, hull: float, temporal: float) -> Row:
        iou = {"hull": hull, "temporal": temporal, "model": model}
        return Row("clip", 0, "thing", 0.4, 3, iou, iou, {"network": 20.0})

    good, bad = row(0.6, 0.5, 0.4), row(0.6, 0.5, 0.7)
    assert [line[:4] for line in verdicts([good] * 9 + [bad] * 3)] == ["PASS", "PASS"]
    few = verdicts([good] * 8 + [bad] * 4)
    assert [line[:4] for line in few] == ["PASS", "FAIL"]
    assert "on 8 of 12 clips, 9 wanted" in few[1]
    assert verdicts([bad] * 12)[0] == "FAIL: mean IoU of hidden parts 0.600, better baseline 0.700"
    assert table([good, bad]).splitlines()[-1] == (
        "| mean |  |  | 0.500 (0.500) | 0.550 (0.550) | 0.600 (0.600) | 20.0 |"
    )


@pytest.mark.slow
def test_the_script_on_a_tiny_clip(tmp_path: Path) -> None:
    rgb, mask = _clip()
    folder = tmp_path / "clips/square"
    folder.mkdir(parents=True)
    encode(folder / "clip.mp4", rgb)
    write_masks(folder / "masks", mask)
    model, cutouts = tiny_completer_folder(tmp_path / "model"), tiny_cutouts_folder(tmp_path / "cutouts")
    command = ["--clips", str(tmp_path / "clips"), "--cutouts", str(cutouts), "--model", str(model), "--seeds", "2"]
    command.append("--own-cutouts")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/real_clips.py"), *command, "--out", str(tmp_path / "out.json")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2 + 2 + 1 + 2
    assert lines[2].startswith("| square 0, drawn 1: ")
    kept = json.loads((tmp_path / "out.json").read_text())
    assert [row["seed"] for row in kept["rows"]] == [0, 1]
    assert kept["rows"][0]["iou"].keys() == {"hull", "temporal", "model"}
    assert kept["verdicts"] == lines[-2:]
