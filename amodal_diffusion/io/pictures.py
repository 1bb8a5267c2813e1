"""Pictures as clips: a folder of pictures, one picture, or a file of several frames; upright 8-bit sRGB comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.color_profiles import read_profile, to_srgb
from amodal_diffusion.io.images import SUFFIXES, open_picture
from amodal_diffusion.io.picture_depth import (
    DeepFrame,
    DepthSurvey,
    WhitePoint,
    deep_of_picture,
    is_deep_png,
    read_deep_png,
    tiff_pages,
)
from amodal_diffusion.io.picture_formats import check_gif, decoding, identify
from amodal_diffusion.io.timing import Timing
from amodal_diffusion.types import UInt8Array

PICTURES_FPS = 8.0  # of a folder of pictures, which says nothing of time; the rate that the networks know
_ANIMATED = ("PNG", "WEBP", "GIF", "AVIF")  # other files of several pictures (MPO) hold one and its previews
_SHORTEST, _USUAL = 11.0, 100.0  # milliseconds; browsers show frames that last less for the usual time
_ORIENTATION = 0x0112  # EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredFrame:
    """One frame of a picture file, as it is stored.

    Attributes:
        content: a decoded picture of 8 bits or fewer, or values of more.
        orientation: as EXIF counts, 1 is upright.
        profile: ICC profile, if any.
        start: milliseconds at which an animation shows the frame; None where the file says durations alone.
        milliseconds: for which an animation shows the frame; None where the file does not say.
    """

    content: Image.Image | DeepFrame
    orientation: int = 1
    profile: bytes | None = None
    start: float | None = None
    milliseconds: float | None = None

    @property
    def mode(self) -> str:
        """Pillow's."""
        return self.content.mode

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, upright."""
        if isinstance(self.content, DeepFrame):
            height, width = self.content.values.shape[:2]
        else:
            width, height = self.content.size
        return (width, height) if self.orientation in (5, 6, 7, 8) else (height, width)

    def to_rgb(self, white: WhitePoint) -> UInt8Array:
        """The frame as a camera means it: upright, 8-bit sRGB, transparency dropped.

        Args:
            white: of the clip.

        Returns:
            uint8 ``[H, W, 3]``.
        """
        picture = white.to_8_bit(self.content) if isinstance(self.content, DeepFrame) else self.content
        if self.orientation in _TURNS:
            picture = picture.transpose(_TURNS[self.orientation])
        return np.array(to_srgb(picture, self.profile), dtype=np.uint8)


@dataclass(frozen=True)
class PictureClip:
    """Pictures of one size as a clip (see :class:`amodal_diffusion.io.video_reader.ClipReader`).

    Attributes:
        path: the folder, or the one file.
        files: the pictures in order; one where it holds all frames.
        height: pixels.
        width: pixels.
        timing: when each frame is shown.
        fps: frames a second, on average.
        positions: always None; a missing picture leaves no trace.
        pixel_aspect: always 1.
        source_color: names of the files' ICC profiles; empty where they have none.
    """

    path: Path
    files: tuple[Path, ...]
    height: int
    width: int
    timing: Timing
    fps: float = PICTURES_FPS
    positions: tuple[int, ...] | None = None
    pixel_aspect: Fraction = Fraction(1)
    source_color: str = ""
    _white: WhitePoint = field(default=WhitePoint(), repr=False)

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.timing.ticks)

    def __iter__(self) -> Iterator[UInt8Array]:
        count = 0
        for file in self.files:
            for frame in stored_frames(file):
                if frame.size != (self.height, self.width):
                    raise InputError(f"{file}: changed while it was being read")
                yield _converted(frame, file, self._white)
                count += 1
        if count != self.num_frames:
            raise InputError(f"{self.path}: {count} frames now, {self.num_frames} before; changed while being read")


def open_pictures(path: Path, files: Sequence[Path], *, bit_depth: int | None = None) -> PictureClip:
    """Decode every picture once, so that a damaged one is found before any work is done.

    Args:
        path: what the user named.
        files: the pictures in order: one frame each, or one file with all frames.
        bit_depth: of integers in pictures of 16 bits; by the files when None.

    Raises:
        InputError: if there are none, one cannot be read, sizes differ, or values do not fit their range.
    """
    if not files:
        raise InputError(f"{path}: no pictures in this folder; looked for {' '.join(SUFFIXES)}")
    survey = _Survey()
    for file in files:
        before = len(survey.times)
        for frame in stored_frames(file):
            survey.add(file, len(survey.times) - before, frame)
        if len(files) > 1 and len(survey.times) - before > 1:
            raise InputError(
                f"{file}: holds {len(survey.times) - before} frames in a folder of pictures, where each is one frame; "
                "give the file itself as the clip"
            )
    white, notices = survey.depth.judge(path, bit_depth)
    is_gif = identify(files[0]) == "GIF"
    cut_off = check_gif(files[0]) if is_gif else None
    for notice in (*notices, *survey.color_notices(path), *([cut_off] if cut_off else [])):
        logger.warning("%s", notice)
    timing = _timing(survey.times, coarse=is_gif)
    height, width = survey.size
    return PictureClip(
        path if len(files) > 1 or not path.is_dir() or len(survey.times) == 1 else files[0],
        tuple(files),
        height,
        width,
        timing,
        fps=float(timing.rate),
        source_color=", ".join(f"ICC profile {name}" for name in sorted(survey.profiles)),
        _white=white,
    )


def read_frames(files: Sequence[Path], size: tuple[int, int]) -> UInt8Array:
    """Read pictures of one clip into memory, with one range for all.

    Args:
        files: the pictures in order, one frame each, at least one.
        size: height and width of the clip's masks.

    Returns:
        uint8 ``[F, H, W, 3]``, upright sRGB, transparency dropped.

    Raises:
        InputError: if a file is missing, empty, damaged or no picture, has several frames, or another size.
    """
    frames, white, notices = _read_stills(files, size)
    for notice in notices:
        logger.warning("%s", notice)
    return np.stack([_converted(frame, file, white) for frame, file in zip(frames, files, strict=True)])


def read_rgb(path: Path) -> UInt8Array:
    """Read a picture as a camera means it: upright, 8-bit sRGB, transparency dropped.

    Args:
        path: the file.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        InputError: if the file is missing, empty, damaged or no picture, or has several frames.
    """
    frames, white, _ = _read_stills([path])
    return _converted(frames[0], path, white)


def _read_stills(
    files: Sequence[Path], size: tuple[int, int] | None = None
) -> tuple[list[StoredFrame], WhitePoint, list[str]]:
    """The one frame of each picture, which value is white, and what the user should know of it."""
    survey, found = _Survey(), []
    for file in files:
        frames = list(stored_frames(file))
        if len(frames) != 1:
            raise InputError(f"{file}: holds {len(frames)} frames; expected a picture of one")
        height, width = frames[0].size
        if size is not None and size != (height, width):
            raise InputError(f"{file}: {width}x{height} pixels for masks of {size[1]}x{size[0]}")
        survey.add(file, 0, frames[0])
        found.append(frames[0])
    white, notices = survey.depth.judge(files[0], None)
    return found, white, [*notices, *survey.color_notices(files[0])]


def _converted(frame: StoredFrame, file: Path, white: WhitePoint) -> UInt8Array:
    with decoding(file):
        return frame.to_rgb(white)


def stored_frames(path: Path) -> Iterator[StoredFrame]:
    """Decode the frames of a picture file, one in memory at a time.

    Args:
        path: the file.

    Yields:
        one frame of a still picture; of an animation all, each as it is seen, with what earlier ones leave of it. Use a
            frame before asking for the next, which takes its memory.

    Raises:
        InputError: if the file is missing, empty, damaged or no picture.
    """
    found = identify(path)
    if found == "TIFF":
        yield from _tiff_frames(path)
        return
    with open_picture(path) as picture:
        with decoding(path):
            last = getattr(picture, "n_frames", 1) if found in _ANIMATED else 1
        # An animated PNG may have a still picture for programs that show no animations.
        first = int(last > 1 and bool(getattr(picture, "default_image", False)))
        for number in range(first, last):
            with decoding(path):
                picture.seek(number)
                picture.load()
                content = deep_of_picture(picture) or picture
                orientation = picture.getexif().get(_ORIENTATION, 1)
            info = picture.info
            if last == 1 and found == "PNG" and is_deep_png(path):
                content = read_deep_png(path)
            shown = (info.get("timestamp"), float(info.get("duration") or 0.0)) if last - first > 1 else (None, None)
            yield StoredFrame(content, orientation, info.get("icc_profile"), *shown)


def _tiff_frames(path: Path) -> Iterator[StoredFrame]:
    """Pages of a TIFF: by Pillow up to 8 bits, which turns them upright, else by tifffile."""
    with ExitStack() as stack:
        picture = None
        for number, deep in tiff_pages(path):
            if deep is not None:
                yield StoredFrame(deep, deep.orientation, deep.profile)
                continue
            picture = picture or stack.enter_context(open_picture(path))
            with decoding(path):
                picture.seek(number)
                profile = picture.info.get("icc_profile")
                picture.load()
                content = deep_of_picture(picture) or picture
            yield StoredFrame(content, 1, profile)


class _Survey:
    """What the frames of a clip have in common, checked and added up.

    Attributes:
        times: start and duration of each frame, see `StoredFrame`.
        size: height and width of all frames.
        depth: of frames of more than 8 bits.
        profiles: names of ICC profiles, and whether one converts pixels.
    """

    def __init__(self) -> None:
        self.times: list[tuple[float | None, float | None]] = []
        self.size = (0, 0)
        self.depth = DepthSurvey()
        self.profiles: dict[str, bool] = {}
        self._first = Path()

    def add(self, file: Path, number: int, frame: StoredFrame) -> None:
        """Look at a frame, the one of a number in its file."""
        if not self.times:
            self.size, self._first = frame.size, file
        place = f"{file}: frame {number}" if number else str(file)
        if frame.size != self.size:
            (height, width), (wanted_height, wanted_width) = frame.size, self.size
            raise InputError(
                f"{place}: {width}x{height} pixels, {self._first.name} has {wanted_width}x{wanted_height}; "
                "all pictures of a clip must have one size"
            )
        if isinstance(frame.content, DeepFrame):
            self.depth.add(frame.content, place)
        if frame.profile:
            profile = read_profile(frame.profile)
            name = profile.name if profile.mode is None or profile.describes(frame.mode) else (
                f"{profile.name} (of another color space, ignored)"
            )  # fmt: skip
            self.profiles[name] = self.profiles.get(name, False) or profile.converts(frame.mode)
        self.times.append((frame.start, frame.milliseconds))

    def color_notices(self, path: Path) -> list[str]:
        """What a user should know of the profiles."""
        converted = sorted(name for name, converts in self.profiles.items() if converts)
        ignored = sorted(name for name in self.profiles if name.endswith("ignored)"))
        notices = [f"{path}: ICC profile {name}" for name in ignored]
        if converted:
            notices.append(f"{path}: pixels are converted to sRGB from the ICC profile {', '.join(converted)}")
        return notices


def _timing(times: Sequence[tuple[float | None, float | None]], *, coarse: bool) -> Timing:
    """When frames are shown: steadily where that is what their times say, rounded as the format does it.

    Args:
        times: start and duration of each frame in milliseconds.
        coarse: times are in hundredths of a second.
    """
    count = len(times)
    if count == 1 or any(length is None for _, length in times):
        return Timing.steady(count, PICTURES_FPS)
    starts = [start for start, _ in times if start is not None]
    lengths = [length or 0.0 for _, length in times]
    if len(starts) < count or any(later <= earlier for earlier, later in pairwise(starts)):
        lengths = [length if length >= _SHORTEST else _USUAL for length in lengths]
        starts = [0.0, *accumulate(lengths[:-1])]
        if max(lengths) - min(lengths) < 1e-6 * max(lengths):
            return Timing.steady(count, 1000.0 / lengths[0])
    unit = 10 if coarse else 1
    ticks = [round((start - starts[0]) / unit) for start in starts]
    average = 1000.0 * count / (starts[-1] - starts[0] + (lengths[-1] or _USUAL))
    found = None
    for rate in (max(1, round(average)), average):
        found = Timing.stored(ticks, Fraction(unit, 1000), rate)
        if found is not None and isinstance(found.ticks, range):
            return found
    return found or Timing.steady(count, average)
