"""Clips in: a stream of frames from a video file, a folder of pictures or one picture.

PyAV is the only reader of videos. decord opens neither AV1 nor GIF, fails on MPEG-TS, reports frames that a truncated
file no longer has, and reads clips at random places no faster than PyAV that seeks (``benchmarks/readers.py``); imageio
repeats frames to a constant rate, which hides that some are missing.
"""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, Self

import av
import numpy as np
from av import Packet, VideoFrame, VideoStream
from av.buffer import Buffer
from av.container import InputContainer
from av.error import FFmpegError

from amodal_diffusion.io.images import PICTURES_FPS, SUFFIXES, list_pictures, open_pictures
from amodal_diffusion.io.timing import DecodeTally, Timing, describe, judge
from amodal_diffusion.types import InputError, UInt8Array

# PyAV's frame and its side data hold each other, so that decoded frames wait for Python's rare full collections.
_COLLECTED = 32  # frames

logger = logging.getLogger(__name__)


class ClipReader(Protocol):
    """A clip that can be read any number of times, one frame in memory at a time; iterate for uint8 ``[H, W, 3]``."""

    @property
    def path(self) -> Path:
        """Where the clip comes from."""

    @property
    def num_frames(self) -> int:
        """How many frames iteration yields, at least 1."""

    @property
    def fps(self) -> float:
        """Frames a second, on average where the rate varies."""

    @property
    def height(self) -> int:
        """Pixels, after any rotation that the file asks for."""

    @property
    def width(self) -> int:
        """Pixels, after any rotation that the file asks for."""

    @property
    def positions(self) -> tuple[int, ...] | None:
        """Of a video with missing frames, the place of each frame in the whole video; None if unknown."""

    @property
    def timing(self) -> Timing:
        """When each frame is shown."""

    @property
    def pixel_aspect(self) -> Fraction:
        """Width over height of a pixel, after any rotation; 1 for square ones."""

    def __iter__(self) -> Iterator[UInt8Array]:
        """Read from the first frame on.

        Raises:
            InputError: if the file is no longer what it was when it was opened.
        """


def open_clip(
    path: str | Path, *, allow_truncated: bool = False, on_frame: Callable[[UInt8Array], object] | None = None
) -> ClipReader:
    """Open a clip and read it through once, so that its frames are counted and known to be sound.

    Args:
        path: a video file, a folder of pictures of one size, or one picture.
        allow_truncated: take the frames that decode from a video that is truncated or damaged.
        on_frame: called with each frame, uint8 ``[H, W, 3]``, while the clip is read through; the pixels are those of
            the clip that is returned.

    Raises:
        InputError: if there is nothing there, it is no clip, or it is damaged and that was not allowed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return open_pictures(path, list_pictures(path), on_frame=on_frame)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    if path.suffix.lower() in SUFFIXES:
        return open_pictures(path, [path], on_frame=on_frame)
    return _open_video(path, allow_truncated=allow_truncated, on_frame=on_frame)


def read_clip(path: str | Path, *, allow_truncated: bool = False) -> tuple[UInt8Array, float]:
    """Read a whole clip into memory.

    Args:
        path: as for :func:`open_clip`.
        allow_truncated: as for :func:`open_clip`.

    Returns:
        frames, uint8 ``[F, H, W, 3]``, and frames a second.

    Raises:
        InputError: as :func:`open_clip`.
    """
    clip = open_clip(path, allow_truncated=allow_truncated)
    frames = np.empty((clip.num_frames, clip.height, clip.width, 3), np.uint8)
    for index, frame in enumerate(clip):
        frames[index] = frame
    return frames, clip.fps


def keeps_values(path: Path) -> bool:
    """Whether the codec of a video gives back every value as it was saved, so that it can hold labels.

    Args:
        path: a video that opens.
    """
    with _video(path, frame_threads=False) as (_, stream):
        codec = stream.codec_context.codec
        return codec.lossless and not codec.lossy


@dataclass(frozen=True)
class _VideoClip:
    """A video file as a clip."""

    path: Path
    num_frames: int
    fps: float
    height: int
    width: int
    sound: bool
    positions: tuple[int, ...] | None
    timing: Timing
    pixel_aspect: Fraction

    def __iter__(self) -> Iterator[UInt8Array]:
        count = 0
        # FFmpeg's frame threads are faster, but lose frames around damage: then they are left off, as in the count.
        with _video(self.path, frame_threads=self.sound) as (container, stream):
            for frame in _decode(container, stream, DecodeTally()):
                rgb = _upright_rgb(frame)
                if rgb.shape[:2] != (self.height, self.width):
                    raise InputError(
                        f"{self.path}: frame {count} has {rgb.shape[1]}x{rgb.shape[0]} pixels, the first "
                        f"{self.width}x{self.height}; cut the video where its size changes"
                    )
                yield rgb
                count += 1
                if count % _COLLECTED == 0:
                    gc.collect()
        if count != self.num_frames:
            raise InputError(f"{self.path}: {count} frames now, {self.num_frames} before; changed while being read")


def _upright_rgb(frame: VideoFrame) -> UInt8Array:
    """A decoded frame as it is meant to be seen, uint8 ``[H, W, 3]``."""
    # One thread: FFmpeg converts bands of a frame at once, and at odd widths one may spoil another's rim.
    stored: UInt8Array = frame.to_ndarray(format="rgb24", threads=1).astype(np.uint8, copy=False)
    return _orientation(frame).apply(stored)


def _open_video(path: Path, *, allow_truncated: bool, on_frame: Callable[[UInt8Array], object] | None) -> ClipReader:
    tally = DecodeTally()
    with _video(path, frame_threads=False) as (container, stream):
        height, width, aspect = 0, 0, Fraction(1)
        ticks: list[int | None] = []
        for frame in _decode(container, stream, tally):
            ticks.append(frame.pts)
            if on_frame is not None:
                on_frame(_upright_rgb(frame))
            if not height:
                orientation = _orientation(frame)
                height, width = orientation.size(frame.height, frame.width)
                aspect = stream.sample_aspect_ratio or Fraction(1)
                aspect = 1 / aspect if orientation.swap_sides else aspect
        unit = stream.time_base
        tally.indexed = "mp4" in container.format.name.split(",")
        rate = float(stream.average_rate or stream.guessed_rate or 0) or None
        tally.start = float((stream.start_time or 0) * (stream.time_base or 0))
        duration = _duration(container, stream, first=min(tally.times, default=0.0))
    if not tally.frames:
        raise InputError(f"{path}: not one frame decodes (read by PyAV); the file is damaged")
    verdict = judge(tally, duration=duration, rate=rate)
    if not verdict.sound:
        found = f"truncated or damaged: {describe(tally, verdict)}, read by PyAV"
        if not allow_truncated:
            raise InputError(f"{path}: {found}; give a whole file, or --allow-truncated to go on with what decodes")
        logger.warning("%s: %s; going on with those", path, found)
    fps = verdict.fps or PICTURES_FPS
    return _VideoClip(
        path,
        num_frames=tally.frames,
        fps=fps,
        height=height,
        width=width,
        sound=verdict.sound,
        positions=verdict.positions,
        timing=_timing(ticks, unit, fps),
        pixel_aspect=aspect,
    )


def _timing(ticks: list[int | None], unit: Fraction | None, fps: float) -> Timing:
    """Times of the frames as the file has them, or steady ones where it has none that make sense."""
    known = [tick for tick in ticks if tick is not None]
    stored = Timing.stored(known, unit, fps) if unit and len(known) == len(ticks) else None
    return stored or Timing.steady(len(ticks), fps)


@contextmanager
def _video(path: Path, *, frame_threads: bool) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first video stream of a file; PyAV keeps FFmpeg's own messages off the terminal."""
    try:
        # "file:" keeps FFmpeg from taking a colon in the name for a protocol.
        container = av.open(f"file:{path}", metadata_errors="ignore")
    except (FFmpegError, OSError) as error:
        raise InputError(f"{path}: {_why_unreadable(path)} (read by PyAV: {_text(error)})") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path}: holds no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO" if frame_threads else "SLICE"
        yield container, stream


def _decode(container: InputContainer, stream: VideoStream, tally: DecodeTally) -> Iterator[VideoFrame]:
    """Yield the frames that decode, past any damage, and count what happened."""
    unit = float(stream.time_base or 0)  # seconds; frames that are flushed out at the end do not know it
    for packet in _packets(container, stream, tally):
        if packet is not None and packet.pts is not None and unit:
            tally.stored.append(packet.pts * unit)
        try:
            frames = stream.decode(packet)
        except FFmpegError:
            tally.errors += 1
            continue
        for frame in frames:
            tally.frames += 1
            tally.patched += frame.is_corrupt
            if frame.pts is not None and unit:
                tally.times.append(frame.pts * unit)
                tally.last_shown = frame.duration * unit
            yield frame


def _packets(
    container: InputContainer, stream: VideoStream, tally: DecodeTally
) -> Iterator[Packet[VideoStream] | None]:
    """Yield packets, then None, which makes the decoder hand out what it still holds."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except FFmpegError:
        tally.errors += 1
    yield None


def _duration(container: InputContainer, stream: VideoStream, *, first: float) -> float | None:
    """Seconds from the first frame, shown at ``first``, to the end; None where the file does not say."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))  # Matroska's way
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - max(first, 0.0)
    if container.duration and len(container.streams) == 1:  # else sound may be what lasts so long
        return container.duration / av.time_base - max(first, 0.0)
    return None


def _why_unreadable(path: Path) -> str:
    """Tell the commonest damage, an MP4 that lost its index, from a file that never was a video."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if head[4:8] == b"ftyp":
        return "0 frames decode: an MP4 whose index (moov) is missing, so it was cut off"
    return "not a video"


def _text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _orientation(frame: VideoFrame) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return Orientation.from_display_matrix(bytes(matrix)) if isinstance(matrix, Buffer) else Orientation()


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is meant to be seen; quarter turns and mirror images only.

    Attributes:
        swap_sides: exchange rows and columns, before the rest.
        flip_rows: turn upside down.
        flip_columns: exchange left and right.
    """

    swap_sides: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def from_display_matrix(cls, data: bytes) -> Self:
        """Read FFmpeg's display matrix ``[[a, b, u], [c, d, v], [x, y, w]]``: x' = a x + c y, y' = b x + d y.

        Args:
            data: nine int32 in the machine's byte order; any other turn is taken to its nearest quarter.
        """
        (a, b), (c, d) = np.frombuffer(data, np.int32, count=9).reshape(3, 3)[:2, :2].astype(np.int64)
        if abs(b) > abs(a):
            return cls(True, bool(b < 0), bool(c < 0))
        return cls(False, bool(d < 0), bool(a < 0))

    def apply(self, rgb: UInt8Array) -> UInt8Array:
        """Turn a frame.

        Args:
            rgb: uint8 ``[H, W, 3]`` as stored.

        Returns:
            uint8 ``[H, W, 3]`` as meant, or ``[W, H, 3]``.
        """
        if self == Orientation():
            return rgb
        turned = rgb.swapaxes(0, 1) if self.swap_sides else rgb
        return np.ascontiguousarray(turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels after :meth:`apply`.

        Args:
            height: pixels as stored.
            width: pixels as stored.
        """
        return (width, height) if self.swap_sides else (height, width)
