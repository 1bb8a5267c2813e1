"""The one way to open video and sound files: containers of a list, on this machine, and no file that they point to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.error import ExitError, FFmpegError

from amodal_diffusion.basics import InputError

FORMATS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "mxf", "asf", "ogg",
    "flv", "gif", "dv", "yuv4mpegpipe", "ivf", "h264", "hevc", "obu", "av1",
)  # fmt: skip
"""FFmpeg's names of the containers that are read; playlists and lists of parts, which name other files, are none."""
_FIRST_STREAMS = 8  # that take options
TIMEOUT_VARIABLE, _TIMEOUT = "AMODAL_READ_TIMEOUT", 30.0  # seconds without a packet
_INDEX, _INDEX_ENTRY = 512, 40  # bytes of Matroska's index and tags, and of each packet in it
_POINTERS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]", b"file '", b"file:", b"v=0")


def open_container(path: Path, *, most_pixels: int | None = None) -> InputContainer:
    """Open a video or sound file with FFmpeg.

    Args:
        path: a regular file. The environment variable ``AMODAL_READ_TIMEOUT`` gives the seconds for which opening, and
            later the reading of each packet, may last (default: 30).
        most_pixels: a decoder that FFmpeg starts while it opens the file refuses larger frames, where the container
            names its streams at its start (MPEG-TS, MPEG-PS and FLV do not).

    Raises:
        InputError: if the file cannot be opened in time, or its container is not one of `FORMATS`.
    """
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(kind):
        raise InputError(f"{path}: expected a video file, got a pipe or a device; save what it delivers as a file")
    head = _head(path)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_POINTERS):
        raise InputError(f"{path}: a playlist or list of files, which is never opened; give the video that it names")
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    streams = [] if most_pixels is None else [{"max_pixels": str(most_pixels)}] * _FIRST_STREAMS

    def opened(stream_options: list[dict[str, str]]) -> InputContainer:
        return av.open(
            f"file:{path}",  # "file:" keeps FFmpeg from taking a colon in the name for a protocol
            metadata_errors="ignore",
            container_options=options,
            stream_options=stream_options,  # type: ignore[arg-type]  # PyAV takes dictionaries
            timeout=_timeout(),
        )

    try:
        try:
            return opened(streams)
        except ValueError as error:  # streams are not known before packets are read, so that they take no options
            if isinstance(error, FFmpegError) or not streams:
                raise
            return opened([])
    except ExitError as error:
        raise InputError(f"{path}: {stall_text()}") from error
    except (FFmpegError, OSError) as error:
        raise InputError(f"{path}: {_why_unreadable(head)} (read by PyAV: {error_text(error)})") from error


def open_nowhere(form: str) -> OutputContainer:
    """Open a container that is written to no file, to try out what it takes.

    Args:
        form: FFmpeg's name of the container.
    """
    return av.open(_Nowhere(), "w", format=form)


def is_entire(path: Path, *, read_to: int, packets: int) -> bool:
    """Whether a Matroska or WebM file is as long as it says of itself, with nothing but an index behind its packets.

    Args:
        path: any file; other kinds do not say, and programs that write a live stream leave it out.
        read_to: number of bytes up to the end of the last packet that was read.
        packets: number of packets.
    """
    with path.open("rb") as file:
        end = 0
        for name in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):  # the header and all the rest
            file.seek(end)
            if file.read(4) != name:
                return False
            first = file.read(1)
            length = 9 - (first[0].bit_length() if first else 0)
            digits = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
            end = file.tell() + digits
        unknown = digits == (1 << 7 * length) - 1
        size = file.seek(0, os.SEEK_END)
    return not unknown and end <= size and size - read_to <= _INDEX + _INDEX_ENTRY * packets


def stall_text() -> str:
    """What to say of a file whose reading raised FFmpeg's ``ExitError``: the time ran out."""
    return (
        f"nothing could be read for {_timeout():g} s; is the disk or network that holds it at work? copy the file to "
        f"another disk, or set {TIMEOUT_VARIABLE} to more seconds"
    )


def error_text(error: Exception) -> str:
    """What FFmpeg says of an error."""
    return str(getattr(error, "strerror", None) or error)


def _timeout() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text) if text else _TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"{TIMEOUT_VARIABLE}: expected seconds above 0, got {text!r}")
    return seconds


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error


def _why_unreadable(head: bytes) -> str:
    """Tell the commonest damage, an MP4 that lost its index, from a file that never was a video."""
    if head[4:8] == b"ftyp":
        return "0 frames decode: an MP4 whose index (moov) is missing, so it was cut off"
    return "not a video file, or of a kind that is not read"


class _Nowhere:
    """A file that takes any bytes and keeps none."""

    def __init__(self) -> None:
        """Begin at the start."""
        self._place, self._size = 0, 0

    def write(self, data: bytes) -> int:
        """Take bytes, and give their number."""
        self._place += len(data)
        self._size = max(self._size, self._place)
        return len(data)

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a byte, counted from the start, from here or from the end, and give its number from the start."""
        self._place = place + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        """Number of the byte that is next."""
        return self._place
