"""The scripts of `inference/` give what the Python API gives."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import AmodalCompleter, VideoClip
from amodal_diffusion.io.images import write_mask_png
from tests.documents import ROOT
from tests.factories import moving_square, tiny_completer_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a model, the frames of a clip, and the masks of its object."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny_completer_folder(folder / "model")
    clip = moving_square()
    for name in ("frames", "masks"):
        (folder / name).mkdir()
    for index, (frame, mask) in enumerate(zip(clip.rgb, clip.modal_mask, strict=True)):
        Image.fromarray(frame).save(folder / f"frames/{index:05d}.png")
        write_mask_png(folder / f"masks/{index:05d}.png", mask)
    return folder


def run_script(name: str, args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *args])
    runpy.run_path(str(ROOT / "inference" / name), run_name="__main__")


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])


def test_they_save_what_the_python_api_gives(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    square = moving_square()
    completer = AmodalCompleter.from_pretrained(folder / "model")
    result = completer(VideoClip(square.rgb, square.modal_mask), completer.config(num_inference_steps=1))
    common = [str(folder / "frames"), "--masks", str(folder / "masks"), "--model", str(folder / "model")]
    common += ["--steps", "1"]

    run_script("predict_amodal_masks.py", [*common, "--out", str(tmp_path / "masks")], monkeypatch)
    np.testing.assert_array_equal(pictures(tmp_path / "masks/1") > 0, result.amodal_mask)

    run_script("complete_video.py", [*common, "--out", str(tmp_path / "both")], monkeypatch)
    np.testing.assert_array_equal(pictures(tmp_path / "both/1/amodal_masks") > 0, result.amodal_mask)
    np.testing.assert_array_equal(pictures(tmp_path / "both/1/completed"), result.rgba)

    known = ["--amodal-masks", str(tmp_path / "masks/1")]
    run_script("complete_content.py", [*common, *known, "--out", str(tmp_path / "content")], monkeypatch)
    np.testing.assert_array_equal(pictures(tmp_path / "content/1"), result.rgba)


def test_a_mistake_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = [str(folder / "frames"), "--masks", str(folder / "none"), "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"error: masks: .*none: no such file or folder"):
        run_script("predict_amodal_masks.py", args, monkeypatch)
