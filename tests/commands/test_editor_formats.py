"""`complete` for editors: layered pictures, MP4 and GIF over a color, and `--shrink-mask`."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import av
import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from scipy import ndimage

from amodal_diffusion.cli import main
from amodal_diffusion.frames.layers import style_layer
from amodal_diffusion.io.images import write_mask_png
from tests.commands.folders import BAR, amodal_masks, contents, discs_behind_a_bar, pictures

FRAMES = 5
MAGENTA = (255, 0, 255)
CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)  # neighbors within a frame, at a distance of 1


def complete(inputs: list[str], out: Path, *options: str) -> Path:
    assert main(["complete", *inputs, "-o", str(out), "-q", *options]) == 0
    return out


def test_layers_and_colors(tmp_path: Path, model: Path) -> None:
    inputs = discs_behind_a_bar(tmp_path, model, FRAMES, {"cup": 0, "2": 3})
    out = complete(
        inputs, tmp_path / "out", "--formats", "png,psd,ora,mp4,gif", "--layer-frames", "0,3",
        "--over-color", "#1080f0", "--margin", "0.25",
    )  # fmt: skip
    assert sorted(path.name for path in (out / "layered").iterdir()) == [
        "00000.ora", "00000.psd", "00003.ora", "00003.psd"
    ]  # fmt: skip
    order = json.loads((out / "order.jsonl").read_text().splitlines()[3])["front_to_back"]
    source = np.asarray(Image.open(tmp_path / "frames" / "frame3.png"))
    document = PSDImage.open(out / "layered" / "00003.psd")
    titles = {"cup": "cup", "2": "object 2"}
    assert [layer.name for layer in document] == ["frame 3", *(titles[name] for name in reversed(order))]
    assert (document.size, document[0].offset) == ((60, 36), (10, 6))  # the margins have no picture
    np.testing.assert_array_equal(np.asarray(document[0].topil())[..., :3], source)
    for name, layer in zip(reversed(order), list(document)[1:], strict=True):
        placed = np.zeros((36, 60, 4), np.uint8)
        placed[layer.top : layer.bottom, layer.left : layer.right] = np.asarray(layer.topil())
        written = pictures(out / "objects" / name / "completed")[3]
        np.testing.assert_array_equal(placed, style_layer(written, soft_edge=1))
    with zipfile.ZipFile(out / "layered" / "00003.ora") as archive:
        stack = ET.fromstring(archive.read("stack.xml")).findall("stack/layer")
    assert [entry.get("name") for entry in stack] == [*(titles[name] for name in order), "frame 3"]

    whole = amodal_masks(out, "cup")
    with av.open(str(out / "objects" / "cup" / "completed.mp4")) as video:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
    corner = frames[:, :4, :4].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(corner, (0x10, 0x80, 0xF0), atol=6)
    assert frames.shape == (FRAMES, 36, 60, 3)
    with Image.open(out / "objects" / "cup" / "completed.gif") as image:
        assert image.size == (60, 72)  # the frame above the object
        lower = np.asarray(image.convert("RGB"))[36:]
    assert np.abs(lower[~whole[0]].astype(int) - (0x10, 0x80, 0xF0)).max() <= 4


@pytest.mark.slow
def test_the_frame_in_which_most_is_hidden_and_resuming(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = discs_behind_a_bar(tmp_path, model, FRAMES, {"cup": 0})
    whole = complete(inputs, tmp_path / "whole", "--formats", "psd")
    record = json.loads((whole / "objects" / "cup" / "object.json").read_text())
    hidden = np.subtract(record["amodal_area"], record["visible_area"])
    (path,) = (whole / "layered").iterdir()
    assert hidden[int(path.stem)] == hidden.max()
    assert not (whole / "objects" / "cup" / "completed").exists()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("amodal_diffusion.completion.layered_export.write_psd", interrupt)
    out = tmp_path / "out"
    assert main(["complete", *inputs, "-o", str(out), "-q", "--formats", "psd"]) == 130
    monkeypatch.undo()
    assert contents(complete(inputs, out, "--formats", "psd")) == contents(whole)


@pytest.mark.parametrize(
    "options",
    [
        ("--color-propagation",),
        pytest.param(("--margin", "0.25"), marks=pytest.mark.slow),
        pytest.param(("--skip-unoccluded",), marks=pytest.mark.slow),
    ],
)
def test_a_shrunk_mask_repaints_its_rim_alone(tmp_path: Path, model: Path, options: tuple[str, ...]) -> None:
    inputs = discs_behind_a_bar(tmp_path, model, FRAMES, {"cup": 0})
    write_mask_png(
        sorted((tmp_path / "masks" / "cup").iterdir())[-1], np.zeros((24, 40), bool)
    )  # an object that leaves
    modal = pictures(tmp_path / "masks" / "cup") > 0
    line = modal.copy()
    line[:, :, : BAR[2].start - 1] = line[:, :, BAR[2].stop + 1 :] = False
    for file, mask in zip(sorted((tmp_path / "frames").iterdir()), line, strict=True):  # the bar's color, on the object
        rgb = np.array(Image.open(file))
        rgb[mask] = MAGENTA
        Image.fromarray(rgb).save(file)
    plain = complete(inputs, tmp_path / "plain", *options)
    shrunk = complete(inputs, tmp_path / "shrunk", *options, "--shrink-mask", "1")

    # Masks stay
    records = [json.loads((out / "objects" / "cup" / "object.json").read_text()) for out in (plain, shrunk)]
    rim_area = records[1].pop("rim_area")
    assert "rim_area" not in records[0]
    for key in ("visible_area", "amodal_area", "occlusion_intervals", "removed_by_filters"):
        assert records[0][key] == records[1][key]
    np.testing.assert_array_equal(amodal_masks(plain, "cup"), amodal_masks(shrunk, "cup"))
    before, after = (pictures(out / "objects" / "cup" / "completed") for out in (plain, shrunk))
    np.testing.assert_array_equal(before[..., 3], after[..., 3])

    # Visible pixels stay but for the rim, in which the line is gone
    top, left = (6, 10) if "--margin" in options else (0, 0)
    before, after = (layers[:, top : top + 24, left : left + 40, :3] for layers in (before, after))
    source = pictures(tmp_path / "frames")
    kept = modal & ~ndimage.binary_dilation(~modal, CROSS)
    np.testing.assert_array_equal(before[modal], source[modal])
    np.testing.assert_array_equal(after[kept], source[kept])
    assert rim_area == (modal & ~kept).sum(axis=(1, 2)).tolist()
    assert (before[line] == MAGENTA).all()
    assert not (np.abs(after[modal].astype(int) - MAGENTA).max(axis=-1) < 60).any()
    assert json.loads((shrunk / "summary.json").read_text())["recomposition"]["max_abs_difference"] == 0
