"""`complete --margin`: objects that the border cuts off get masks and layers on a canvas larger than the frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.cli import main
from amodal_diffusion.io.video_reader import open_clip
from tests.commands.folders import amodal_masks, pictures
from tests.media import moving_disc, write_frames, write_masks

FRAMES = 3
WIDE_RGB, WIDE_MASK = moving_disc(FRAMES, 36, 60)
INSIDE = np.s_[:, 6:30, 14:46]  # what the clip shows of it; the disc comes in from the left and leaves to the right
RGB, MASK = WIDE_RGB[INSIDE], WIDE_MASK[INSIDE]


@pytest.fixture
def command(tmp_path: Path, model: Path) -> list[str]:
    """A clip whose disc the border cuts off in the first and the last frame."""
    clip, masks = write_frames(tmp_path / "frames", RGB), write_masks(tmp_path / "masks", MASK)
    np.save(tmp_path / "depth.npy", np.random.default_rng(0).random(MASK.shape, dtype=np.float32))
    depth = ["--depth", str(tmp_path / "depth.npy")]
    options = ["--model", str(model), "--device", "cpu", "-q"]
    return ["complete", str(clip), "--masks", str(masks), "--margin", "0.25", *depth, *options]


def test_masks_and_layers_are_on_the_canvas(tmp_path: Path, command: list[str]) -> None:
    out = tmp_path / "out"
    assert main([*command, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["canvas"] == {"height": 36, "width": 48, "offset_y": 6, "offset_x": 8}
    assert (summary["clip"]["height"], summary["clip"]["width"]) == (24, 32)
    assert summary["recomposition"]["max_abs_difference"] == 0
    whole, layers = (pictures(out / "objects" / "1" / name) for name in ("amodal_masks", "completed"))
    assert whole.shape == (FRAMES, 36, 48)
    assert layers.shape == (FRAMES, 36, 48, 4)
    frame = np.s_[:, 6:30, 8:40]
    np.testing.assert_array_equal(layers[frame][MASK], np.insert(RGB[MASK], 3, 255, axis=-1))
    assert (whole[frame][MASK] == 255).all()
    beyond = whole > 0
    beyond[frame] = False
    assert beyond.any()  # random networks say yes to about half of the pixels
    np.testing.assert_array_equal(layers[..., 3], whole)
    overlay = open_clip(out / "overlay.mp4")
    assert (overlay.height, overlay.width, overlay.num_frames) == (36, 48, FRAMES)


def test_whole_masks_of_the_frame_or_of_the_canvas(tmp_path: Path, command: list[str]) -> None:
    known = WIDE_MASK[:, :, 6:54]
    for name, masks in (("canvas", known), ("frame", MASK)):
        out = tmp_path / f"{name}-out"
        given = write_masks(tmp_path / name, masks)
        assert main([*command, "--amodal-masks", str(given), "--out", str(out)]) == 0
        expected = known if name == "canvas" else np.pad(MASK, ((0, 0), (6, 6), (8, 8)))
        np.testing.assert_array_equal(amodal_masks(out, "1"), expected)


def test_margins_that_are_refused(tmp_path: Path, command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--margin", "1.5", "--out", str(tmp_path / "out")]) == 2
    assert capfd.readouterr().err.startswith("error: --margin: expected 0 to 1")
    assert not list(tmp_path.glob("out*"))
