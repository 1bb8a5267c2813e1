"""Layered pictures for editors: Photoshop (PSD) and OpenRaster (ORA, of Krita and GIMP)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import bounds
from amodal_diffusion.types import UInt8Array

_PSD_SIDE = 30_000  # pixels; what the format can hold
_PSD_NAME = 255  # characters of a layer's name
_THUMBNAIL = 256  # pixels of the longer side, as OpenRaster asks for
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the archive, so that the same layers give the same bytes


@dataclass(frozen=True)
class Layer:
    """A layer of a picture.

    Attributes:
        name: shown in the editor's list of layers.
        rgba: straight alpha, uint8 ``[h, w, 4]``; not empty.
        top: row of the picture in which the first row of the layer lies.
        left: column of the picture in which the first column of the layer lies.
    """

    name: str
    rgba: UInt8Array
    top: int = 0
    left: int = 0

    @classmethod
    def cropped(cls, name: str, rgba: UInt8Array) -> Layer | None:
        """The part of a picture-sized layer that is not transparent; None if there is none.

        Args:
            name: shown in the editor's list of layers.
            rgba: straight alpha, uint8 ``[H, W, 4]``.
        """
        rows, columns = bounds(rgba[..., 3])
        if rows[0] == rows[1]:
            return None
        return cls(name, rgba[slice(*rows), slice(*columns)], rows[0], columns[0])


@dataclass(frozen=True)
class LayeredPicture:
    """A picture made of layers.

    Attributes:
        height: in pixels.
        width: in pixels.
        layers: from back to front; they lie inside the picture.
    """

    height: int
    width: int
    layers: Sequence[Layer]

    def merged(self) -> UInt8Array:
        """All layers over each other, straight alpha, uint8 ``[height, width, 4]``."""
        picture = Image.new("RGBA", (self.width, self.height))
        for layer in self.layers:
            picture.alpha_composite(Image.fromarray(layer.rgba), (layer.left, layer.top))
        return np.asarray(picture)


def write_psd(path: Path, picture: LayeredPicture) -> None:
    """Write a Photoshop file of 8 bits a channel, with a flattened picture for programs that read no layers.

    Args:
        path: destination, overwritten.
        picture: what to write.

    Raises:
        InputError: if a side is longer than the format allows.
    """
    from psd_tools import PSDImage

    if max(picture.height, picture.width) > _PSD_SIDE:
        raise InputError(
            f"--formats: psd holds at most {_PSD_SIDE} x {_PSD_SIDE} pixels, got {picture.height} x {picture.width}; "
            "ora has no such limit"
        )
    document = PSDImage.new("RGB", (picture.width, picture.height), color=255)
    for layer in picture.layers:
        # From an array, as from a Pillow image alpha would become a mask of the layer
        added = document.create_pixel_layer_from_array(layer.rgba, top=layer.top, left=layer.left)
        added.name = layer.name[:_PSD_NAME]  # set apart, as only the setter takes names beyond MacRoman
    document.save(path)


def write_ora(path: Path, picture: LayeredPicture) -> None:
    """Write an OpenRaster file (version 0.0.5 of its specification).

    Args:
        path: destination, overwritten.
        picture: what to write.
    """
    merged = Image.fromarray(picture.merged())
    thumbnail = merged.copy()
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    image = ET.Element("image", version="0.0.5", w=str(picture.width), h=str(picture.height))
    stack = ET.SubElement(image, "stack")
    with zipfile.ZipFile(path, "w") as archive:
        # The type comes first and uncompressed, so that programs find it at a fixed place
        _store(archive, "mimetype", b"image/openraster")
        for number, layer in enumerate(picture.layers):
            _store(archive, _layer_file(number), _png(Image.fromarray(layer.rgba)))
        for number, layer in reversed(list(enumerate(picture.layers))):  # the stack lists the front layer first
            place = {"x": str(layer.left), "y": str(layer.top)}
            ET.SubElement(stack, "layer", {"name": layer.name, "src": _layer_file(number), "opacity": "1.0", **place})
        _store(archive, "stack.xml", ET.tostring(image, encoding="utf-8", xml_declaration=True))
        _store(archive, "mergedimage.png", _png(merged))
        _store(archive, "Thumbnails/thumbnail.png", _png(thumbnail))


def _layer_file(number: int) -> str:
    return f"data/layer{number:03d}.png"


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()


def _store(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file without compression, which PNG has already."""
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
