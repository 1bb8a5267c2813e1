"""PSD and OpenRaster files: read back, they have the layers that were written."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.layered import Layer, LayeredPicture, write_ora, write_psd
from tests.media import UInt8


@pytest.fixture
def picture() -> LayeredPicture:
    """A ground of 20 x 30 pixels, and two layers with all kinds of alpha; names as users write them."""
    rng = np.random.default_rng(0)
    ground, back, front = (rng.integers(0, 256, size, np.uint8) for size in ((20, 30, 4), (6, 9, 4), (11, 4, 4)))
    ground[..., 3] = 255
    layers = [Layer("frame 3", ground), Layer("2", back, 5, 20), Layer("tasse é 杯", front, 9, 0)]
    return LayeredPicture(20, 30, layers)


def over_white(picture: LayeredPicture) -> UInt8:
    """The layers over each other, computed in floating point, uint8 ``[H, W, 3]``."""
    result = np.full((picture.height, picture.width, 3), 255.0)
    for layer in picture.layers:
        height, width = layer.rgba.shape[:2]
        part = result[layer.top : layer.top + height, layer.left : layer.left + width]
        alpha = layer.rgba[..., 3:] / 255
        part[:] = layer.rgba[..., :3] * alpha + part * (1 - alpha)
    return np.rint(result).astype(np.uint8)


def test_psd(tmp_path: Path, picture: LayeredPicture) -> None:
    write_psd(tmp_path / "a.psd", picture)
    write_psd(tmp_path / "b.psd", picture)
    assert (tmp_path / "a.psd").read_bytes() == (tmp_path / "b.psd").read_bytes()
    document = PSDImage.open(tmp_path / "a.psd")
    assert document.size == (30, 20)
    assert len(document) == 3
    for written, read in zip(picture.layers, document, strict=True):  # both from back to front
        assert (read.name, read.left, read.top, read.visible) == (written.name, written.left, written.top, True)
        assert not read.has_mask()  # alpha is the layer's transparency
        np.testing.assert_array_equal(np.asarray(read.topil()), written.rgba)
    flat = np.asarray(Image.open(tmp_path / "a.psd"))  # what programs without layers show
    assert np.abs(flat.astype(int) - over_white(picture)).max() <= 1


def test_ora(tmp_path: Path, picture: LayeredPicture) -> None:
    path = tmp_path / "a.ora"
    write_ora(path, picture)
    write_ora(tmp_path / "b.ora", picture)
    assert path.read_bytes() == (tmp_path / "b.ora").read_bytes()
    assert path.read_bytes()[30:54] == b"mimetypeimage/openraster"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        image = ET.fromstring(archive.read("stack.xml"))
        read = {name: np.asarray(Image.open(io.BytesIO(archive.read(name))))
                for name in archive.namelist() if name.endswith(".png")}  # fmt: skip
    assert (image.tag, image.get("w"), image.get("h")) == ("image", "30", "20")
    found = image.findall("stack/layer")
    for written, entry in zip(reversed(picture.layers), found, strict=True):  # the stack begins in front
        assert (entry.get("name"), entry.get("x"), entry.get("y")) == (
            written.name,
            str(written.left),
            str(written.top),
        )
        np.testing.assert_array_equal(read[entry.get("src", "")], written.rgba)
    assert np.abs(read["mergedimage.png"][..., :3].astype(int) - over_white(picture)).max() <= 2
    assert max(read["Thumbnails/thumbnail.png"].shape) <= 256


def test_cropping_and_the_largest_psd(tmp_path: Path) -> None:
    rgba = np.zeros((8, 9, 4), np.uint8)
    assert Layer.cropped("empty", rgba) is None
    rgba[2:5, 3:4] = 7
    layer = Layer.cropped("cup", rgba)
    assert layer is not None
    assert (layer.top, layer.left, layer.rgba.shape) == (2, 3, (3, 1, 4))
    with pytest.raises(InputError, match="psd holds at most 30000 x 30000 pixels, got 4 x 30001; ora has no such"):
        write_psd(tmp_path / "a.psd", LayeredPicture(4, 30_001, []))
