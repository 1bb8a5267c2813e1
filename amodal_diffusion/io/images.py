"""Single pictures on disk: how every picture is opened, masks and RGBA layers, and the order of files in a folder."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.picture_formats import check_png, check_size, decoding, identify, pixel_limit
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".apng", ".gif", ".avif",
    ".tga", ".jp2", ".j2k",
)  # fmt: skip


@dataclass(frozen=True)
class IntegerPicture:
    """A one-channel image: a mask, a label map or depth.

    Attributes:
        values: uint16 ``[H, W]``.
        top: largest value of the pixel format: 1, 255 or 65535.
        palette: whether the values are palette indices (labels) rather than gray values.
    """

    values: npt.NDArray[np.uint16]
    top: int
    palette: bool


def list_pictures(folder: Path) -> list[Path]:
    """List the images in a folder in natural order (2 before 10), without hidden files.

    Args:
        folder: an existing folder.
    """
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    return sorted((path for path in found if path.is_file()), key=lambda path: natural_key(path.name))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key for natural order, which compares runs of digits as numbers, of any length."""
    parts = re.split(r"([0-9]+)", name)  # text and digits in turn
    return [
        (0, len(number := part.lstrip("0")), number) if place % 2 else (1, 0, part)
        for place, part in enumerate(parts)
        if part
    ]


def open_picture(path: Path) -> Image.Image:
    """Open a picture without decoding it; the one place that hands a file to Pillow.

    The content decides the format, not the ending, and Pillow tries this format alone.

    Args:
        path: an image in any format that Pillow reads.

    Returns:
        the picture, to be closed; decode it within :func:`~amodal_diffusion.io.picture_formats.decoding`.

    Raises:
        InputError: if the file is missing, empty, damaged, too large, or of no format that is read.
    """
    found = identify(path)
    if found == "PNG":
        check_png(path)
    with decoding(path):
        if (limit := pixel_limit()) is not None:
            Image.MAX_IMAGE_PIXELS = limit  # Pillow itself refuses twice as many
        picture = Image.open(path, formats=(found,))
    check_size(path, *picture.size)
    return picture


def read_rgba(path: Path) -> UInt8Array:
    """Read an RGBA layer with straight alpha.

    Args:
        path: an image; one without an alpha channel is opaque.

    Returns:
        uint8 ``[H, W, 4]``.

    Raises:
        InputError: if the file is missing, empty, damaged or not an image.
    """
    with _opened(path) as picture:
        return np.array(picture.convert("RGBA"), dtype=np.uint8)


def open_content(content: bytes, kind: str, size: tuple[int, int]) -> Image.Image:
    """Open a picture in memory; its size is checked before a pixel is decoded.

    Args:
        content: of the file.
        kind: Pillow's name of the one format that it may have.
        size: height and width that it must have.

    Raises:
        ValueError: if it has another size.
        OSError: if it has another format, or is damaged.
    """
    picture = Image.open(io.BytesIO(content), formats=[kind])
    if (picture.height, picture.width) != size:
        raise ValueError(f"{picture.width}x{picture.height} pixels, expected {size[1]}x{size[0]}")
    return picture


def decode_png(content: bytes, *, height: int, width: int) -> UInt8Array:
    """Decode a PNG in memory.

    Args:
        content: of the file.
        height: most rows; checked before a pixel is decoded.
        width: most columns.

    Returns:
        RGBA, uint8 ``[h, w, 4]``.

    Raises:
        ValueError: if it is larger.
        OSError: if it is no PNG, or damaged.
    """
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        if picture.width > width or picture.height > height:
            raise ValueError(f"expected at most {width}x{height} pixels, got {picture.width}x{picture.height}")
        return np.array(picture.convert("RGBA"), dtype=np.uint8)


def read_integers(path: Path) -> IntegerPicture:
    """Read a mask, a label map or depth without scaling its values.

    Args:
        path: an image. RGB is accepted if its three channels are equal; an alpha channel is dropped if it is constant.

    Raises:
        InputError: if the file cannot be read, is colored, or is neither 1-, 8- nor 16-bit.
    """
    with _opened(path) as picture:
        array = np.array(picture)
        mode = picture.mode
    if array.ndim == 3:
        array = _one_channel(array, mode, path)
    if mode == "1":
        return IntegerPicture(array.astype(np.uint16), 1, False)
    if array.dtype == np.uint8:
        return IntegerPicture(array.astype(np.uint16), 255, mode == "P")
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 65535:
        return IntegerPicture(array.astype(np.uint16), 65535, False)
    raise InputError(f"{path}: expected integers of 1, 8 or 16 bits, got {array.dtype}; save it as PNG")


def read_floats(path: Path) -> FloatArray:
    """Read a one-channel floating-point image.

    Args:
        path: an image, such as a 32-bit float TIFF.

    Returns:
        float32 ``[H, W]``.

    Raises:
        InputError: if the file cannot be read or has another pixel format.
    """
    with _opened(path) as picture:
        if picture.mode != "F":
            raise InputError(f"{path}: expected floating-point numbers in one channel, got {picture.mode}")
        return np.array(picture, dtype=np.float32)


def write_mask_png(path: Path, mask: BoolArray) -> None:
    """Write a mask as an 8-bit grayscale PNG, 0 outside and 255 inside.

    Args:
        path: destination, overwritten; its folder must exist.
        mask: bool ``[H, W]``.
    """
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(path, format="PNG")


def write_levels_png(path: Path, levels: npt.NDArray[np.uint16]) -> None:
    """Write a one-channel image as a 16-bit grayscale PNG.

    Args:
        path: destination, overwritten; its folder must exist.
        levels: uint16 ``[H, W]``.
    """
    Image.fromarray(levels).save(path, format="PNG")


def davis_palette() -> UInt8Array:
    """RGB palette of the labels in DAVIS and PASCAL VOC, uint8 ``[256, 3]``."""
    labels, channels = np.arange(256)[:, None], np.arange(3)
    colors = sum(((labels >> (3 * bit + channels)) & 1) << (7 - bit) for bit in range(8))
    return np.asarray(colors, dtype=np.uint8)


def write_label_png(path: Path, labels: UInt8Array) -> None:
    """Write a label map as a PNG with the DAVIS palette.

    Args:
        path: destination, overwritten; its folder must exist.
        labels: uint8 ``[H, W]``, 0 is the background.
    """
    picture = Image.fromarray(labels)
    picture.putpalette(davis_palette().ravel().tolist())  # changes the mode from L to P
    picture.save(path, format="PNG")


def write_rgba_png(path: Path, rgba: UInt8Array) -> None:
    """Write an RGBA layer as a PNG with straight alpha.

    Args:
        path: destination, overwritten; its folder must exist.
        rgba: uint8 ``[H, W, 4]``.
    """
    Image.fromarray(rgba).save(path, format="PNG")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open and fully decode a picture."""
    with open_picture(path) as picture:
        with decoding(path):
            picture.load()
        yield picture


def _one_channel(array: npt.NDArray[np.generic], mode: str, path: Path) -> npt.NDArray[np.generic]:
    """Reduce RGB, RGBA or LA ``[H, W, C]`` to ``[H, W]``; raise an InputError if that would lose information."""
    colors = array[..., :-1] if mode in ("RGBA", "LA") else array
    if mode in ("RGBA", "LA") and (array[..., -1] != array[0, 0, -1]).any():
        raise InputError(f"{path}: expected one channel, got {mode} with transparency; save the mask as gray")
    if mode not in ("RGB", "RGBA", "LA") or (colors != colors[..., :1]).any():
        raise InputError(f"{path}: expected one channel, got {mode} colors; save labels as gray or palette PNG")
    return colors[..., 0]
