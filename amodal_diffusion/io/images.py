"""Single pictures on disk: frames, masks and RGBA layers, and the order of the files in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from amodal_diffusion.io.timing import Timing
from amodal_diffusion.types import BoolArray, FloatArray, InputError, UInt8Array

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
PICTURES_FPS = 8.0  # of a folder of pictures, which says nothing of time; the rate that the networks know


@dataclass(frozen=True)
class IntegerPicture:
    """A picture of one channel: a mask, labels or depth.

    Attributes:
        values: unsigned integers ``[H, W]``.
        top: the largest value that its format can hold: 1, 255 or 65535.
        palette: whether the values are indices of a palette, so labels rather than gray.
    """

    values: npt.NDArray[np.uint16]
    top: int
    palette: bool


@dataclass(frozen=True)
class PictureClip:
    """Pictures of one size as a clip (see :class:`amodal_diffusion.io.video_reader.ClipReader`).

    Attributes:
        path: the folder, or the one picture.
        files: the pictures in order.
        height: pixels.
        width: pixels.
        fps: frames a second.
        positions: always None; a missing picture leaves no trace.
        pixel_aspect: always 1.
    """

    path: Path
    files: tuple[Path, ...]
    height: int
    width: int
    fps: float = PICTURES_FPS
    positions: tuple[int, ...] | None = None
    pixel_aspect: Fraction = Fraction(1)

    @property
    def num_frames(self) -> int:
        """Number of pictures."""
        return len(self.files)

    @property
    def timing(self) -> Timing:
        """Steady, at ``fps``."""
        return Timing.steady(self.num_frames, self.fps)

    def __iter__(self) -> Iterator[UInt8Array]:
        for file in self.files:
            frame = read_rgb(file)
            if frame.shape[:2] != (self.height, self.width):
                raise InputError(f"{file}: changed while it was being read")
            yield frame


def open_pictures(
    path: Path, files: list[Path], *, on_frame: Callable[[UInt8Array], object] | None = None
) -> PictureClip:
    """Decode every picture once, so that a damaged one is found before any work is done.

    Args:
        path: what the user named.
        files: the pictures in order.
        on_frame: called with each picture, uint8 ``[H, W, 3]``, in order.

    Raises:
        InputError: if there are none, one cannot be read, or sizes differ.
    """
    if not files:
        raise InputError(f"{path}: no pictures in this folder; looked for {' '.join(SUFFIXES)}")
    sizes = []
    for file in files:
        frame = read_rgb(file)
        sizes.append(frame.shape[:2])
        if on_frame is not None:
            on_frame(frame)
    height, width = sizes[0]
    for file, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            raise InputError(
                f"{file}: {size[1]}x{size[0]} pixels, {files[0].name} has {width}x{height}; "
                "all pictures of a clip must have one size"
            )
    return PictureClip(path, tuple(files), height, width)


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures in a folder in natural order (2 before 10), hidden files left out.

    Args:
        folder: an existing folder.
    """
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    return sorted((path for path in found if path.is_file()), key=lambda path: natural_key(path.name))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that compares runs of digits as numbers.

    Args:
        name: a file's or folder's name.
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def read_rgb(path: Path) -> UInt8Array:
    """Read a picture as a camera means it: upright, 8-bit RGB, transparency dropped.

    Args:
        path: the file.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        InputError: if the file is missing, empty, damaged or no picture.
    """
    with _opened(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):  # 16-bit gray, whose values Pillow would clip at 255
            gray = np.asarray(upright).astype(np.uint16) >> 8
            return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=-1)
        return np.array(upright.convert("RGB"), dtype=np.uint8)


def read_rgba(path: Path) -> UInt8Array:
    """Read a layer with straight alpha.

    Args:
        path: the file; opaque where it has no alpha.

    Returns:
        uint8 ``[H, W, 4]``.

    Raises:
        InputError: if the file is missing, empty, damaged or no picture.
    """
    with _opened(path) as picture:
        return np.array(picture.convert("RGBA"), dtype=np.uint8)


def read_integers(path: Path) -> IntegerPicture:
    """Read a mask, labels or depth with the file's own values.

    Args:
        path: the file; RGB is read where its three channels are equal, opaque alpha is dropped.

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
    """Read a picture of one channel of floating-point numbers, such as TIFF.

    Args:
        path: the file.

    Returns:
        float32 ``[H, W]``.

    Raises:
        InputError: if the file cannot be read or holds anything else.
    """
    with _opened(path) as picture:
        if picture.mode != "F":
            raise InputError(f"{path}: expected floating-point numbers in one channel, got {picture.mode}")
        return np.array(picture, dtype=np.float32)


def write_mask_png(path: Path, mask: BoolArray) -> None:
    """Write a mask as 8-bit gray PNG, 0 outside and 255 inside.

    Args:
        path: the file, overwritten; its folder must exist.
        mask: bool ``[H, W]``.
    """
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(path, format="PNG")


def davis_palette() -> UInt8Array:
    """Colors of the labels in DAVIS and PASCAL VOC, uint8 ``[256, 3]``: a label's bits go round red, green, blue."""
    labels, channels = np.arange(256)[:, None], np.arange(3)
    colors = sum(((labels >> (3 * bit + channels)) & 1) << (7 - bit) for bit in range(8))
    return np.asarray(colors, dtype=np.uint8)


def write_label_png(path: Path, labels: UInt8Array) -> None:
    """Write labels as a palette PNG in DAVIS's colors.

    Args:
        path: the file, overwritten; its folder must exist.
        labels: uint8 ``[H, W]``, 0 is the background.
    """
    picture = Image.fromarray(labels)
    picture.putpalette(davis_palette().ravel().tolist())  # a palette picture from here on
    picture.save(path, format="PNG")


def write_rgba_png(path: Path, rgba: UInt8Array) -> None:
    """Write a layer as PNG with straight alpha.

    Args:
        path: the file, overwritten; its folder must exist.
        rgba: uint8 ``[H, W, 4]``.
    """
    Image.fromarray(rgba).save(path, format="PNG")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open and fully decode a picture; anything Pillow raises on bad files becomes an InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    try:
        picture = Image.open(path)
        picture.load()
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a picture that Pillow can read") from error
    # SyntaxError: a broken PNG chunk; ValueError: a broken PPM
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: damaged or unreadable picture ({error})") from error
    with picture:
        yield picture


def _one_channel(array: npt.NDArray[np.generic], mode: str, path: Path) -> npt.NDArray[np.generic]:
    """Reduce RGB, RGBA or LA ``[H, W, C]`` to ``[H, W]`` where nothing is lost by it."""
    colors = array[..., :-1] if mode in ("RGBA", "LA") else array
    if mode in ("RGBA", "LA") and (array[..., -1] != array[0, 0, -1]).any():
        raise InputError(f"{path}: expected one channel, got {mode} with transparency; save the mask as gray")
    if mode not in ("RGB", "RGBA", "LA") or (colors != colors[..., :1]).any():
        raise InputError(f"{path}: expected one channel, got {mode} colors; save labels as gray or palette PNG")
    return colors[..., 0]
