"""Pictures of more than 8 bits a channel: their values, which value is white, and 8-bit frames of them.

Pillow reads 16-bit color as 8 bit and floating-point color not at all: PyAV reads such PNG, tifffile such TIFF.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
import tifffile
from av import Packet
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.picture_formats import check_png, check_size, check_tiff, decoding
from amodal_diffusion.types import UInt8Array

Values = npt.NDArray[np.unsignedinteger[Any] | np.floating[Any]]
_GRAY, _RGB, _CMYK = "L", "RGB", "CMYK"
_MODES = {0: _GRAY, 1: _GRAY, 2: _RGB, 5: _CMYK}  # Pillow's, of TIFF's photometric interpretations
_WHITE_IS_ZERO = 0
_PARTS = 1 | 4  # of TIFF's NewSubfileType: a reduced picture, or a transparency mask

for _library in ("tifffile", "PIL"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)  # errors are raised as well


@dataclass(frozen=True)
class DeepFrame:
    """A picture of more than 8 bits a channel, without alpha.

    Attributes:
        values: unsigned integers or floats ``[H, W, C]``.
        mode: what the channels are: ``"L"``, ``"RGB"`` or ``"CMYK"``.
        white: the largest value of the format; 1 for floats.
        significant: bits that the file says to matter, of the 16 that it has; None where it does not say.
        scaled: the reader has scaled the values to 16 bits, whatever the file has.
        orientation: as EXIF counts, 1 is upright.
        profile: ICC profile, if any.
    """

    values: Values
    mode: str
    white: float
    significant: int | None = None
    scaled: bool = False
    orientation: int = 1
    profile: bytes | None = None

    @property
    def is_float(self) -> bool:
        """Whether values are meant to lie in [0, 1]."""
        return self.values.dtype.kind == "f"

    @property
    def is_open(self) -> bool:
        """Whether values of fewer bits may hide in the 16 bits of the format."""
        return self.white == 65535 and not self.scaled


@dataclass(frozen=True)
class WhitePoint:
    """Which value is white in all frames of a clip.

    Attributes:
        bits: of the values, where the user says so.
        significant: whether the bits that files say to matter are the lowest ones.
    """

    bits: int | None = None
    significant: bool = False

    def of(self, frame: DeepFrame) -> float:
        """The value of a frame that becomes 255.

        Args:
            frame: of the clip.
        """
        if not frame.is_open:
            return frame.white
        if self.bits is not None:
            return float(2**self.bits - 1)
        return float(2**frame.significant - 1) if self.significant and frame.significant else frame.white

    def to_8_bit(self, frame: DeepFrame) -> Image.Image:
        """Scale a frame to 8 bits, rounding to the nearest; values above white are clipped.

        Args:
            frame: of the clip.

        Returns:
            a picture of the frame's mode.
        """
        # 65535 * 255 is exact in float32, and white is odd, so that no integer lies in the middle of two.
        exact: type[Any] = np.float32 if frame.values.dtype.itemsize <= 2 or frame.is_float else np.float64
        scaled = frame.values.astype(exact) * exact(255) / exact(self.of(frame))
        rounded: UInt8Array = np.floor(np.clip(scaled, 0, 255) + exact(0.5)).astype(np.uint8)
        height, width = rounded.shape[:2]
        return Image.frombytes(frame.mode, (width, height), rounded.tobytes())


@dataclass
class DepthSurvey:
    """What the deep frames of a clip hold, added up.

    Attributes:
        largest: of the integers of frames that may hold fewer bits than 16.
        largest_float: of the floats.
        smallest_float: of the floats.
        pixels: numbers of floating-point values.
        above: of these, how many are above 1.
        significant: fewest bits that a file says to matter.
        untagged: whether a frame that may hold fewer bits does not say how many.
        is_deep: whether there is a frame of 16 bits that ``--bit-depth`` counts for.
    """

    largest: int = 0
    largest_float: float = 0.0
    smallest_float: float = 0.0
    pixels: int = 0
    above: int = 0
    significant: int | None = None
    untagged: bool = False
    is_deep: bool = False

    def add(self, frame: DeepFrame, place: str) -> None:
        """Look at a frame.

        Args:
            frame: of the clip.
            place: names the frame in messages.

        Raises:
            InputError: if a value is not finite.
        """
        values = frame.values
        if frame.is_float:
            if not np.isfinite(values).all():
                raise InputError(f"{place}: holds NaN or infinity; expected floating-point numbers in 0..1")
            self.largest_float = max(self.largest_float, float(values.max()))
            self.smallest_float = min(self.smallest_float, float(values.min()))
            self.pixels += values.size
            self.above += int((values > 1).sum())
        elif frame.is_open:
            self.is_deep = True
            self.largest = max(self.largest, int(values.max()))
            self.untagged = self.untagged or frame.significant is None
            known = [bits for bits in (self.significant, frame.significant) if bits is not None]
            self.significant = min(known, default=None)

    def judge(self, path: Path, bits: int | None) -> tuple[WhitePoint, list[str]]:
        """Decide which value is white.

        Args:
            path: of the clip, named in messages.
            bits: that the user gives with ``--bit-depth``.

        Returns:
            the decision and what the user should know of it.

        Raises:
            InputError: if values do not fit the bits, or most floats are above 1.
        """
        notices = self._judge_floats(path)
        if bits is not None:
            if not self.is_deep:
                notices.append(f"{path}: --bit-depth {bits} changes nothing; no picture has 16-bit integers")
            elif self.largest > 2**bits - 1:
                raise InputError(
                    f"{path}: --bit-depth {bits}: expected values up to {2**bits - 1}, got {self.largest}; give more"
                )
            return WhitePoint(bits), notices
        low = self.significant is not None and self.significant < 16 and self.largest < 2**self.significant
        if low and self.largest:
            notices.append(
                f"{path}: sBIT says {self.significant} bit, and no value is above {2 ** (self.significant or 0) - 1}: "
                "read as such"
            )
        if self.untagged and 0 < self.largest <= 4095:
            notices.append(f"{path}: no 16-bit value is above 4095: looks like 12 bit; give --bit-depth 12")
        return WhitePoint(significant=low), notices

    def _judge_floats(self, path: Path) -> list[str]:
        if self.above > self.pixels / 2:
            raise InputError(
                f"{path}: expected floating-point pictures in 0..1, got values up to {self.largest_float:.6g}, most of "
                "them above 1; scale them by their white"
            )
        if self.above:
            share = self.above / self.pixels
            largest = f"{share:.2%}, the largest is {self.largest_float:.6g}"
            return [f"{path}: floating-point values above 1 are clipped ({largest})"]
        if self.smallest_float < 0:
            return [f"{path}: floating-point values below 0 are clipped (the smallest is {self.smallest_float:.6g})"]
        return []


def is_deep_png(path: Path) -> bool:
    """Whether a PNG has 16 bits a channel.

    Args:
        path: a PNG.
    """
    with path.open("rb") as file:
        return file.read(25)[24:] == b"\x10"


def read_deep_png(path: Path) -> DeepFrame:
    """Read a PNG of 16 bits a channel.

    Args:
        path: a PNG of one frame.

    Raises:
        InputError: if it is damaged.
    """
    significant = check_png(path)
    with decoding(path):
        values = _decoded("png", path.read_bytes())
    frame = _without_alpha(values, path)
    return replace(frame, significant=min(significant) if significant else None)


def deep_of_picture(picture: Image.Image) -> DeepFrame | None:
    """Take the values of a decoded picture of one channel of more than 8 bits.

    Args:
        picture: decoded.

    Returns:
        None where the picture has 8 bits or fewer.
    """
    if picture.mode == "F":
        return DeepFrame(np.array(picture)[..., None], _GRAY, 1.0)
    if not picture.mode.startswith("I"):
        return None
    values = np.array(picture).astype(np.uint16)[..., None]
    if picture.format == "TIFF":  # 12 bits, which tifffile leaves to Pillow
        return DeepFrame(values, _GRAY, 4095.0)
    return DeepFrame(values, _GRAY, 65535.0, scaled=picture.format in ("PPM", "JPEG2000"))


def tiff_pages(path: Path) -> Iterator[tuple[int, DeepFrame | None]]:
    """Read the pages of a TIFF that are pictures of their own.

    Args:
        path: a TIFF.

    Yields:
        number of the page, and its values; None for a page of 8 bits or fewer, or of 12, which Pillow reads.

    Raises:
        InputError: if the file is damaged, or a page cannot be read.
    """
    check_tiff(path)
    with decoding(path):
        file = tifffile.TiffFile(path)
    with file:
        with decoding(path):
            pages = [(number, page.aspage()) for number, page in enumerate(file.pages)]
            _check_stack(file, len(pages), path)
            whole = [(number, page) for number, page in pages if not int(page.subfiletype) & _PARTS]
        if not whole:
            raise InputError(f"{path}: holds reduced pictures alone, as raw files of cameras do; develop it to PNG")
        for number, page in whole:
            with decoding(path):
                check_size(path, page.imagewidth, page.imagelength)
                frame = _read_page(page, number, path)
            yield number, frame


def _check_stack(file: tifffile.TiffFile, count: int, path: Path) -> None:
    """Refuse ImageJ's stacks whose pages are not one frame each."""
    about = (file.imagej_metadata or {}) if file.is_imagej else {}
    channels, pictures = int(about.get("channels", 1)), int(about.get("images", count))
    if channels > 1 or pictures > count:
        raise InputError(
            f"{path}: an ImageJ stack of {pictures} pictures in {count} pages and {channels} channels; expected a page "
            "a frame: save it as RGB in a plain multi-page TIFF"
        )


def _read_page(page: tifffile.TiffPage, number: int, path: Path) -> DeepFrame | None:
    """Read a page of more than 8 bits."""
    bits = np.max(page.bitspersample)
    if (bits <= 8 and page.sampleformat in (1, 4)) or (bits == 12 and page.samplesperpixel == 1):
        return None
    photometric, dtype = int(page.photometric), page.dtype
    if dtype is None or dtype.kind not in "uf" or photometric not in _MODES:
        name = getattr(page.photometric, "name", photometric)
        raise InputError(
            f"{path}: page {number}: {bits}-bit {dtype} values, {name}; "
            "expected unsigned integers or floats in gray, RGB or CMYK; save it as 16-bit PNG"
        )
    values = _page_values(page, number, path)
    mode, white = _MODES[photometric], 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    channels = len(Image.new(mode, (1, 1)).getbands())
    if values.shape[-1] < channels:
        raise InputError(f"{path}: page {number}: {values.shape[-1]} channels; expected {channels} of {mode}")
    if mode == _GRAY and values.shape[-1] > 2:
        raise InputError(
            f"{path}: page {number}: {values.shape[-1]} gray channels; expected gray or RGB: save it with "
            "the photometric interpretation RGB"
        )
    values = values[..., :channels].astype(np.float32 if dtype.kind == "f" else dtype)
    tags = page.tags
    profile, turned = tags.get("InterColorProfile"), tags.get("Orientation")
    return DeepFrame(
        values, mode, white, orientation=int(turned.value) if turned else 1, profile=profile.value if profile else None
    )


def _page_values(page: tifffile.TiffPage, number: int, path: Path) -> Values:
    """Values of a page ``[H, W, C]``, 0 is black; PyAV decodes what tifffile needs a further library for (LZW)."""
    try:
        values = page.asarray()
    except (KeyError, ValueError, ImportError) as error:
        if not isinstance(error, ImportError) and "imagecodecs" not in str(error):
            raise
        if page.dtype != np.uint16:
            compression = getattr(page.compression, "name", page.compression)
            raise InputError(
                f"{path}: page {number}: cannot be read with its compression ({compression}); save it with ZIP "
                "(Deflate) and without predictor, or uncompressed"
            ) from error
        return _decoded("tiff", _starting_with(page, path.read_bytes()))
    if int(page.photometric) == _WHITE_IS_ZERO:
        white = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        values = (white - values).astype(values.dtype)
    if page.planarconfig == 2 and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    return values[..., None] if values.ndim == 2 else values


def _without_alpha(values: Values, path: Path) -> DeepFrame:
    channels = values.shape[-1]
    if channels not in (1, 2, 3, 4):
        raise InputError(f"{path}: {channels} channels; expected gray or RGB, with or without alpha")
    mode, kept = (_GRAY, 1) if channels <= 2 else (_RGB, 3)
    return DeepFrame(values[..., :kept], mode, 65535.0)


def _starting_with(page: tifffile.TiffPage, data: bytes) -> bytes:
    """A TIFF whose first page is the given one, as FFmpeg reads no other; it turns inverted gray over itself."""
    order: Literal["big", "little"] = "big" if data[:2] == b"MM" else "little"
    if data[2:4] in (b"+\x00", b"\x00+"):
        raise ValueError("BigTIFF with a compression that needs imagecodecs")
    return data[:4] + int(page.offset).to_bytes(4, order) + data[8:]


def _decoded(codec: str, data: bytes) -> Values:
    """Decode one picture with FFmpeg, without any container: uint16 ``[H, W, C]``."""
    context = av.VideoCodecContext.create(codec, "r")
    if not isinstance(context, av.VideoCodecContext):
        raise TypeError(f"{codec} decodes no pictures")
    frame = [*context.decode(Packet(data)), *context.decode(None)][0]
    if frame.is_corrupt or len(frame.planes) != 1:
        raise ValueError("no whole picture")
    channels, plane = len(frame.format.components), frame.planes[0]
    if any(component.bits != 16 for component in frame.format.components):
        raise ValueError(f"expected 16 bits a channel, got {frame.format.name}")
    order = ">u2" if frame.format.is_big_endian else "<u2"
    rows = np.frombuffer(bytes(plane), order).reshape(frame.height, plane.line_size // 2)
    pixels = rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)
    return np.asarray(pixels, dtype=np.uint16)
