"""Size and length of a clip as its headers and packets tell them, so that limits hold before a frame is decoded."""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import av
from av import VideoStream
from av.container import InputContainer
from av.error import FFmpegError
from PIL import Image

from amodal_diffusion.io.images import SUFFIXES
from amodal_diffusion.types import InputError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
    *(".mxf", ".wmv", ".asf", ".ogv", ".ogg", ".flv", ".gif", ".dv", ".y4m", ".ivf"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".obu"),
)
"""Endings of the videos that can be uploaded."""

CONTAINERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mxf,mxf_opatom,asf,ogg,flv,gif,dv,yuv4mpegpipe,ivf,h264,hevc,obu"  # no playlists
)
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
_SEVERAL = 2  # packets a frame, at most: VP8 has frames that are not shown, broadcasts two fields


@dataclass(frozen=True)
class Extent:
    """How large a clip is, as far as it tells without being decoded.

    Attributes:
        frames: at least so many; counted no further than was asked for.
        height: pixels of the largest picture or stream, as stored.
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
    if path.suffix.lower() in SUFFIXES:
        return _measure_picture(path)
    if zipfile.is_zipfile(path):
        raise InputError(f"{path.name}: a zip that is named otherwise; name it .zip")
    return _measure_video(path, most_frames=most_frames, most_pixels=most_pixels)


def _measure_picture(path: Path) -> Extent:
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as picture:
            return Extent(getattr(picture, "n_frames", 1), picture.height, picture.width)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path.name}: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, TypeError) as error:
        raise InputError(f"{path.name}: not a picture, whatever its name says; give PNG or JPEG") from error


def _measure_video(path: Path, *, most_frames: int, most_pixels: int) -> Extent:
    try:
        with _opened(path, most_pixels) as container:
            streams = [stream for stream in container.streams.video if stream.codec_context is not None]
            if not streams:
                raise InputError(f"{path.name}: holds no video stream")
            largest = max(streams, key=lambda stream: stream.codec_context.width * stream.codec_context.height)
            height, width = largest.codec_context.height, largest.codec_context.width
            if not height * width:
                raise InputError(f"{path.name}: no size of its frames is known, or they are far too large")
            if height * width > most_pixels:
                return Extent(0, height, width)
            frames, seconds = _count(container, streams, most_frames)
            return Extent(frames, height, width, seconds)
    except (FFmpegError, OSError) as error:
        text = getattr(error, "strerror", None) or error
        raise InputError(f"{path.name}: not a video of a kind that is read here ({text})") from error


def _opened(path: Path, most_pixels: int) -> InputContainer:
    """Open a video by its content; a file that names other files, such as a playlist, is refused.

    FFmpeg may decode a first frame to learn its format; it refuses one of far more than ``most_pixels``.
    """
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    largest = [{"max_pixels": str(4 * most_pixels)}] * 8  # of the first streams; 4: rounded up to whole blocks
    try:
        return av.open(
            f"file:{path}",
            options=options,
            stream_options=largest,  # type: ignore[arg-type]  # PyAV takes dictionaries
            metadata_errors="ignore",
        )
    except ValueError as error:
        if isinstance(error, FFmpegError):
            raise
    # Streams of MPEG-TS, MPEG-PS and FLV are not known before packets are read, so that they take no options.
    return av.open(f"file:{path}", options=options, metadata_errors="ignore")


def _count(container: InputContainer, streams: list[VideoStream], most_frames: int) -> tuple[int, float]:
    """Frames and seconds of the longest stream, from its packets; stops where they are far too many."""
    packets: Counter[int] = Counter()
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    try:
        for packet in container.demux(streams):
            if not packet.size:
                continue
            index = packet.stream.index
            packets[index] += 1
            if packet.pts is not None and packet.time_base:
                start = float(packet.pts * packet.time_base)
                first[index] = min(first.get(index, start), start)
                last[index] = max(last.get(index, start), start + float((packet.duration or 0) * packet.time_base))
            if packets[index] > _SEVERAL * most_frames:
                break
    except FFmpegError:  # damage, of which the reader says more
        pass
    counted = {stream.index: bool(stream.frames) for stream in streams}
    frames = max((n if counted[i] else -(-n // _SEVERAL) for i, n in packets.items()), default=0)
    return frames, max((last[index] - first[index] for index in first), default=0.0)
