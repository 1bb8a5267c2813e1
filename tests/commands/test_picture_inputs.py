"""`complete` on animations, deep pictures and pictures with a profile: the right pixels, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from tests.commands.folders import pictures
from tests.io.test_picture_depth import write_png
from tests.media import moving_disc, write_masks
from tests.profiles import P3_TO_D50, matrix_profile

RGB, MASK = moving_disc(4, 24, 40)


def run(tmp_path: Path, model: Path, *options: str | Path) -> int:
    arguments = ["--masks", write_masks(tmp_path / "masks", MASK), "--out", tmp_path / "out", "--model", model]
    return main(["complete", *map(str, (*options, *arguments)), "--device", "cpu", "-q"])


def test_an_animation_is_completed_frame_by_frame(tmp_path: Path, model: Path) -> None:
    frames = [Image.fromarray(frame) for frame in RGB]
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    assert run(tmp_path, model, tmp_path / "clip.webp") == 0
    layers = pictures(tmp_path / "out/objects/1/completed")
    np.testing.assert_array_equal(layers[MASK][:, :3], RGB[MASK])
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["clip"]["frames"], summary["clip"]["fps"], summary["clip"]["color"]) == (4, 20.0, "")


@pytest.mark.parametrize("config", [False, True])
def test_12_bits_are_read_as_asked(
    tmp_path: Path, model: Path, config: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    deep = RGB.astype(np.uint16) * 16
    (tmp_path / "clip").mkdir()
    for index, frame in enumerate(deep):
        write_png(tmp_path / "clip" / f"{index}.png", frame)
    (tmp_path / "options.yaml").write_text("bit_depth: 12\n")
    options = ("--config", tmp_path / "options.yaml") if config else ("--bit-depth", "12")
    assert run(tmp_path, model, tmp_path / "clip", *options) == 0
    assert "looks like" not in capfd.readouterr().err
    layers = pictures(tmp_path / "out/objects/1/completed")
    np.testing.assert_array_equal(layers[MASK][:, :3], np.round(deep[MASK] * (255 / 4095)))


def test_the_range_is_doubted_also_quietly(tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip").mkdir()
    for index, frame in enumerate(RGB):
        Image.fromarray(frame[..., 0].astype(np.uint16) * 16).save(tmp_path / "clip" / f"{index}.png")
    assert run(tmp_path, model, tmp_path / "clip", "--stages", "masks") == 0
    assert "looks like 12 bit; give --bit-depth 12" in capfd.readouterr().err


def test_the_profile_is_named(tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip").mkdir()
    for index, frame in enumerate(RGB):
        picture = Image.fromarray(frame)
        picture.save(tmp_path / "clip" / f"{index}.png", icc_profile=matrix_profile("Display P3", P3_TO_D50))
    assert run(tmp_path, model, tmp_path / "clip", "--stages", "masks") == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["clip"]["color"] == "ICC profile Display P3"
    notices = [line for line in capfd.readouterr().err.splitlines() if "converted to sRGB" in line]
    assert len(notices) == 1


@pytest.mark.parametrize("value", ["0", "17", "twelve"])
def test_a_bit_depth_that_is_none(tmp_path: Path, model: Path, value: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, model, tmp_path, "--bit-depth", value)
    assert ended.value.code == 2
    assert "expected a number of bits from 1 to 16" in capfd.readouterr().err
