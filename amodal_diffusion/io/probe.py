"""Size and length of a clip as its headers and packets tell them, so that limits hold before a frame is decoded."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

from av import VideoStream
from av.container import InputContainer
from av.error import FFmpegError

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.containers import open_container
from amodal_diffusion.io.images import SUFFIXES, open_picture
from amodal_diffusion.io.picture_formats import decoding, picture_format
from amodal_diffusion.io.video_reader import film_of

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".mxf",
    ".wmv", ".asf", ".ogv", ".ogg", ".flv", ".dv", ".y4m", ".ivf", ".h264", ".264", ".h265", ".265", ".hevc", ".obu",
)  # fmt: skip
"""Endings of the videos that can be uploaded."""

_SEVERAL = 2  # packets of a frame, at most: VP8 has frames that are not shown, broadcasts two fields


@dataclass(frozen=True)
class Extent:
    """How large a clip is, as far as it tells without being decoded.

    Attributes:
        frames: at least so many; counted no further than was asked for.
        height: pixels of a picture or of the film, as stored.
        width: pixels, of the same.
        seconds: from the first frame to the end of the last; 0 for pictures.
    """

    frames: int
    height: int
    width: int
    seconds: float = 0.0

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self.height * self.width


def measure(path: Path, *, most_frames: int, most_pixels: int) -> Extent:
    """Measure a video or a picture by its content.

    Args:
        path: the file; its ending tells whether it has to be a picture.
        most_frames: packets are counted no further than twice this number.
        most_pixels: larger streams are not examined further.

    Raises:
        InputError: if it is neither a picture nor a video, whatever its name says.
    """
    if path.suffix.lower() in SUFFIXES or picture_format(path) is not None:
        return _measure_picture(path)
    if zipfile.is_zipfile(path):
        raise InputError(f"{path}: a zip that is named otherwise; name it .zip")
    return _measure_video(path, most_frames=most_frames, most_pixels=most_pixels)


def _measure_picture(path: Path) -> Extent:
    with open_picture(path) as picture, decoding(path):
        return Extent(getattr(picture, "n_frames", 1), picture.height, picture.width)


def _measure_video(path: Path, *, most_frames: int, most_pixels: int) -> Extent:
    # FFmpeg may decode a first frame to learn its format; 4: sizes are rounded up to whole blocks.
    with open_container(path, most_pixels=4 * most_pixels) as container:
        film = film_of(container, path)
        height, width = film.codec_context.height, film.codec_context.width
        if not height * width:
            raise InputError(f"{path}: no size of its frames is known, or they are far too large")
        if height * width > most_pixels:
            return Extent(0, height, width)
        frames, seconds = _count(container, film, most_frames)
        return Extent(frames, height, width, seconds)


def _count(container: InputContainer, film: VideoStream, most_frames: int) -> tuple[int, float]:
    """Frames and seconds by the film's packets; stops where they are far too many."""
    packets, first, last = 0, math.inf, -math.inf
    unit = float(film.time_base or 0)  # seconds
    try:
        for packet in container.demux(film):
            if not packet.size:
                continue
            packets += 1
            if packet.pts is not None:
                first = min(first, packet.pts * unit)
                last = max(last, (packet.pts + (packet.duration or 0)) * unit)
            if packets > _SEVERAL * most_frames:
                break
    except FFmpegError:  # damage, of which the reader says more
        pass
    return packets if film.frames else -(-packets // _SEVERAL), max(last - first, 0.0)
